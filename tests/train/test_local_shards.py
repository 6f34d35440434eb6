"""Which folder a run reads its shards from; the fetch itself is in tests/prep/test_cache.py and tests/system."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest

import bgeprep.cache
from bgeprep.errors import ConfigError as PrepConfigError
from bgetrain.config import DataConfig
from bgetrain.errors import ConfigError
from bgetrain.gather import Ranks
from bgetrain.local_shards import local_shards, refuse_idle_cache


def test_a_folder_is_read_where_it_is() -> None:
    data = DataConfig(train_data="some/shards")
    refuse_idle_cache(data)
    with local_shards(data, Ranks()) as folder:
        assert folder == "some/shards"


def test_a_set_of_a_store_is_held_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []

    @contextmanager
    def held_set(url, *, folder, limit, report):
        said.append(("held", url, folder, limit))
        yield Path("/cache/hash")
        said.append("let go")

    monkeypatch.setattr(bgeprep.cache, "held_set", held_set)
    data = DataConfig(train_data="s3://bucket/set", cache_dir="/cache", cache_limit="2GB")
    refuse_idle_cache(data)
    with local_shards(data, Ranks()) as folder:
        assert folder == "/cache/hash"
        assert said == [("held", "s3://bucket/set", Path("/cache"), 2 * 10**9)]
    assert said[1:] == ["let go"]
    with local_shards(DataConfig(train_data="s3://bucket/set"), Ranks()):
        assert said[-1] == ("held", "s3://bucket/set", None, None)


@pytest.mark.parametrize("setting", ["cache_dir", "cache_limit"])
def test_a_cache_for_nothing_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--{setting}: keeps shard sets of a store") as caught:
        refuse_idle_cache(DataConfig(train_data="shards", **{setting: "1GB"}))
    assert "HF_HOME" in caught.value.hint


def test_a_limit_that_is_none() -> None:
    data = DataConfig(train_data="s3://bucket/set", cache_limit="much")
    with pytest.raises(PrepConfigError, match="--cache_limit: expected a number"), local_shards(data, Ranks()):
        pass
