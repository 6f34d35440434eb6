"""Run files as pytrec_eval reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pytrec_eval

from bgetrain.trec_run import RunFileError, id_with_white_space, read_run, tag_of, write_run


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    scores = np.random.default_rng(1).normal(0, 1, 40).astype(np.float32)
    run = {
        "q1": [(f"d{place}", float(score)) for place, score in enumerate(scores)],
        "问题": [("é", 1.0), ("b", 1.0), ("a", -1e-30)],
    }
    write_run(tmp_path / "a.run", run, tag_of("org/my model"))
    with (tmp_path / "a.run").open(encoding="utf-8") as lines:
        theirs = pytrec_eval.parse_run(lines)
    # nine digits tell any two 32-bit floats apart
    assert {query: {name: np.float32(score) for name, score in found.items()} for query, found in theirs.items()} == {
        query: {name: np.float32(score) for name, score in found} for query, found in run.items()
    }
    assert {query: dict(found) for query, found in read_run(tmp_path / "a.run").items()} == theirs
    lines = (tmp_path / "a.run").read_text(encoding="utf-8").splitlines()
    assert [line.split()[2:4] for line in lines[-3:]] == [["é", "1"], ["b", "2"], ["a", "3"]]
    assert {line.split()[-1] for line in lines} == {"org_my_model"}


def test_ids_that_a_run_file_cannot_hold() -> None:
    assert id_with_white_space(["a", "b:1", "é"]) is None
    for bad in ("a b", "a\t", "", "\u3000x"):
        assert id_with_white_space(["a", bad]) == bad


@pytest.mark.parametrize("line", ["q Q0 d 1 0.5\n", "q Q0 d 1 high tag\n", "one\n", "q Q0 d e 1 0.5 tag\n"])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.run").write_text("q Q0 d 1 0.5 tag\n" + line)
    with pytest.raises(RunFileError, match=r"a\.run:2: expected `query Q0 document rank score tag`"):
        read_run(tmp_path / "a.run")
