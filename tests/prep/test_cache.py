"""Sets of a store on this machine: one fetch for all, a limit that holds, and what is in use stays.

The store is a folder here; tests/system/test_fetch.py has a server and processes.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import bgeprep
from bgeprep import _native
from bgeprep.cache import default_folder, held_set
from bgeprep.errors import ConfigError, ShardError
from bgeprep.objects import is_url


class Store:
    """Sets by URL, and how often each was fetched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fetched: list[str] = []
        self.on_fetch: Callable[[], None] = lambda: None

    def add(self, name: str, rows: int) -> str:
        lines = [json.dumps({"query": f"{name} query {n}", "pos": [f"{name} answer {n}"]}) for n in range(rows)]
        (self.folder / f"{name}.jsonl").write_text("\n".join(lines))
        bgeprep.shard(self.folder / f"{name}.jsonl", self.folder / name, threads=1)
        return f"s3://bucket/{name}"

    def place(self, url: str) -> Path:
        assert is_url(url)
        return self.folder / url.rpartition("/")[2]

    def published(self, url: str) -> str:
        return (self.place(url) / "manifest.json").read_text()

    def fetch(self, url: str, to: Path, threads: int, report: object) -> None:
        self.fetched.append(url)
        self.on_fetch()
        source = self.place(url)
        for part in source.glob("*/*.arrow"):
            (to / part.parent.name).mkdir(exist_ok=True)
            shutil.copy(part, to / part.parent.name)
        shutil.copy(source / "manifest.json", to)

    def bytes(self, url: str) -> int:
        files = [*self.place(url).glob("*/*.arrow"), self.place(url) / "manifest.json"]
        return sum(file.stat().st_size for file in files)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    (tmp_path / "store").mkdir()
    made = Store(tmp_path / "store")
    monkeypatch.setattr(_native, "published", made.published)
    monkeypatch.setattr(_native, "fetch", made.fetch)
    return made


def sets_in(cache: Path) -> set[str]:
    return {place.parent.name for place in cache.glob("*/manifest.json")}


def test_a_set_is_fetched_once(store: Store, tmp_path: Path) -> None:
    url, cache = store.add("a", 50), tmp_path / "cache"
    with held_set(url, folder=cache) as folder:
        assert len(bgeprep.open(folder)) == 50
        assert bgeprep.open(folder).hash == folder.name
    with held_set(url, folder=cache) as again:
        assert again == folder
    assert store.fetched == [url]


def test_processes_that_ask_at_once_wait_for_the_one_that_fetches(store: Store, tmp_path: Path) -> None:
    url, cache = store.add("a", 50), tmp_path / "cache"
    started, all_ask, found = [], threading.Event(), []
    store.on_fetch = lambda: all_ask.wait(30)

    def ask() -> None:
        started.append(1)
        with held_set(url, folder=cache) as folder:
            # a flock belongs to the open file, so threads stand for processes
            found.append((folder / "manifest.json").exists())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert not found
    all_ask.set()
    for thread in threads:
        thread.join(30)
    assert (found, store.fetched) == ([True] * 4, [url])


def test_the_limit_holds_and_what_was_used_longest_ago_goes(store: Store, tmp_path: Path) -> None:
    urls = [store.add(name, 100) for name in "abc"]
    cache, size = tmp_path / "cache", max(store.bytes(url) for url in urls)
    places = []
    for url in (urls[0], urls[1]):
        with held_set(url, folder=cache, limit=2 * size) as folder:
            places.append(folder)
    # the first is used again, so the second was used longest ago
    os.utime(places[1].with_suffix(".lock"), (1, 1))
    with held_set(urls[2], folder=cache, limit=2 * size) as third:
        assert sets_in(cache) == {places[0].name, third.name}
    with held_set(urls[1], folder=cache, limit=size) as second:
        assert sets_in(cache) == {second.name}
    # without a limit all stay
    for url in urls:
        with held_set(url, folder=cache):
            pass
    assert len(sets_in(cache)) == 3


def test_what_is_in_use_stays(store: Store, tmp_path: Path) -> None:
    first, second = store.add("a", 100), store.add("b", 100)
    cache, size = tmp_path / "cache", store.bytes(first)
    with held_set(first, folder=cache, limit=size) as folder:
        with (
            pytest.raises(ShardError, match=r"are sets that other processes use, .* hint: a higher --cache_limit"),
            held_set(second, folder=cache, limit=store.bytes(second)),
        ):
            pass
        assert sets_in(cache) == {folder.name}
        assert store.fetched == [first]
    with held_set(second, folder=cache, limit=store.bytes(second)) as folder:
        assert sets_in(cache) == {folder.name}


def test_a_set_above_the_limit_is_an_error_before_anything_is_fetched(store: Store, tmp_path: Path) -> None:
    url, cache = store.add("a", 100), tmp_path / "cache"
    with (
        pytest.raises(ConfigError, match=r"cache_limit: s3://bucket/a takes .*, the limit is .*: each machine"),
        held_set(url, folder=cache, limit=store.bytes(url) - 1),
    ):
        pass
    assert not store.fetched
    assert not cache.exists()
    with held_set(url, folder=cache, limit=store.bytes(url)) as folder:
        assert len(bgeprep.open(folder)) == 100


def test_a_full_disk_is_an_error_before_anything_is_fetched(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, url, cache = store.add("a", 100), store.add("b", 100), tmp_path / "cache"
    with held_set(old, folder=cache):
        pass
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with (
        pytest.raises(ShardError, match=r"10 bytes are free, the set needs .* more; hint: make space"),
        held_set(url, folder=cache),
    ):
        pass
    assert store.fetched == [old]
    assert not sets_in(cache), "room was made as far as it could be"


def test_a_killed_fetch_is_no_set_and_goes_like_one(store: Store, tmp_path: Path) -> None:
    url, other, cache = store.add("a", 100), store.add("b", 100), tmp_path / "cache"

    def killed() -> None:
        raise KeyboardInterrupt

    store.on_fetch = killed
    with pytest.raises(KeyboardInterrupt), held_set(url, folder=cache):
        pass
    (left,) = [place for place in cache.iterdir() if place.is_dir()]
    (left / "a").mkdir()
    (left / "a" / "part-00000.arrow").write_bytes(b"x" * 5000)
    store.on_fetch = lambda: None
    with held_set(other, folder=cache, limit=store.bytes(other) + 4999):
        assert not left.exists()
    with held_set(url, folder=cache) as folder:
        assert folder == left
        assert len(bgeprep.open(folder)) == 100


def test_what_is_no_set_of_the_cache_stays(store: Store, tmp_path: Path) -> None:
    """Somebody took a folder for a cache that holds other things, with locks of their own."""
    first, second, cache = store.add("a", 100), store.add("b", 100), tmp_path / "cache"
    with held_set(first, folder=cache):
        pass
    (cache / "thesis").mkdir()
    (cache / "thesis" / "chapter.tex").write_text("x" * 100_000)
    (cache / "thesis.lock").touch()
    with held_set(second, folder=cache, limit=store.bytes(second)) as folder:
        assert sets_in(cache) == {folder.name}
    assert (cache / "thesis" / "chapter.tex").exists()
    assert (cache / "thesis.lock").exists()


def test_a_cache_that_cannot_be_written(store: Store, tmp_path: Path) -> None:
    url = store.add("a", 10)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), held_set(url, folder=tmp_path / "file" / "cache"):
        pass


def test_the_default_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "bgeprep" / "sets"
