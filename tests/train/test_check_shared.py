"""Whether a folder is one for all processes: told at the start, the same on each; two machines are in tests/system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bgetrain import gather, resumable
from bgetrain.errors import LaunchError
from bgetrain.gather import Ranks
from bgetrain.resumable import check_shared


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, list[int]], None]:
    """Stands for the other processes: what rank 0 says, and what each one saw."""

    def stand_for(name: str, seen: list[int]) -> None:
        monkeypatch.setattr(gather, "from_main", lambda work, ranks: work() if ranks.is_main else name)
        monkeypatch.setattr(
            gather,
            "exchange",
            lambda values, ranks: [list(values) if rank == ranks.rank else [one] for rank, one in enumerate(seen)],
        )

    monkeypatch.setattr(resumable, "_UNTIL_SEEN", 0.2)
    return stand_for


def test_one_process_looks_at_nothing(tmp_path: Path) -> None:
    check_shared(tmp_path / "out", None)
    check_shared(tmp_path / "out", Ranks())
    assert not list(tmp_path.iterdir())


def test_a_folder_that_all_see_is_left_as_it_was(tmp_path: Path, group: Callable[[str, list[int]], None]) -> None:
    group("", [1, 1])
    check_shared(tmp_path / "deep" / "out", Ranks(rank=0, world_size=2))
    assert not list((tmp_path / "deep" / "out").iterdir())
    (tmp_path / ".seen-x").touch()
    group(".seen-x", [1, 1])
    check_shared(tmp_path, Ranks(rank=1, world_size=2))
    assert (tmp_path / ".seen-x").exists(), "the first process removes it, when all have looked"


def test_whoever_does_not_see_it_is_named_on_every_rank(
    tmp_path: Path, group: Callable[[str, list[int]], None]
) -> None:
    group("", [1, 0, 0])
    with pytest.raises(LaunchError, match=r"out: ranks 1, 2 of 3 cannot see what rank 0 wrote there") as caught:
        check_shared(tmp_path / "out", Ranks(rank=0, world_size=3))
    assert "all machines share" in caught.value.hint
    assert not list((tmp_path / "out").iterdir())
    group(".seen-elsewhere", [1, 1])
    with pytest.raises(LaunchError, match="rank 1 of 2 cannot see"):
        check_shared(tmp_path, Ranks(rank=1, world_size=2))
