"""Clusters of a shard set: planted topics are found, within each source, the same file each time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import bgeprep
from bgeprep.clusters import read_clusters
from bgetrain.__main__ import main
from bgetrain.cluster import cluster
from bgetrain.errors import ConfigError, LaunchError
from bgetrain.resumable import PartsError
from bgetrain.texts import open_texts
from bgetrain.vectors import Vectors, encode_texts
from tests.train.tiny import tiny_encoder

if TYPE_CHECKING:
    from pathlib import Path

    from bgetrain.padding import TokenRows

pytest.importorskip("faiss", reason="the extra `cluster` is not installed")

TOPICS = 3
ROWS = {"first": 90, "second": 30}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources of three topics; the first word of a query tells its topic, that of a passage another one."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "pairs").mkdir()
    for name, count in ROWS.items():
        rows = [
            # the second half of the first source asks each query again, with another answer
            {"query": f"w{row % 45 % TOPICS} query {row % 45} of {name}", "pos": [f"w{row % 2} answer {row} of {name}"]}
            for row in range(count)
        ]
        (folder / "pairs" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bgeprep.shard(folder / "pairs", folder / "shards", threads=1)

    def planted(encoder: Any, rows: TokenRows, **_: Any) -> np.ndarray:
        """A direction for each first word, longer for some texts, and a little noise."""
        topic = rows.ids[rows.offsets[:-1] + 1] - 5
        rng = np.random.default_rng(1)
        vectors = np.eye(16, dtype=np.float32)[topic] + 0.05 * rng.standard_normal((len(rows), 16)).astype(np.float32)
        return vectors * rng.uniform(0.5, 20, (len(rows), 1)).astype(np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bgetrain.embed.embed_rows", planted)
        for role in ("queries", "passages"):
            texts = open_texts(folder / "shards", role)
            encode_texts(tiny_encoder(), texts, folder / "vectors" / role, part_rows=32)
    return folder


def _planted_topic(row: dict[str, Any], column: str) -> tuple[str, str]:
    text = row["query"] if column == "queries" else row["pos"][0]
    return row["source"], text.split()[0]


@pytest.mark.parametrize("by", ["queries", "passages"])
def test_planted_topics_are_found_within_each_source(material: Path, tmp_path: Path, by: Any) -> None:
    wanted = {"queries": 30, "passages": 45}[by]
    told = cluster(material / "shards", material / "vectors", tmp_path / "c.parquet", by=by, rows_per_cluster=wanted)
    found = read_clusters(tmp_path / "c.parquet", material / "shards")
    topics = [_planted_topic(row, by) for row in bgeprep.open(material / "shards")]
    pairs = set(zip(topics, found.tolist(), strict=True))
    if by == "queries":
        # three topics in the first source; the second is too small for more than one cluster
        assert len({number for (source, _), number in pairs if source == "first"}) == 3
        assert len([pair for pair in pairs if pair[0][0] == "first"]) == 3, "a topic is one cluster"
        assert {source.source: len(source.sizes) for source in told} == {"first": 3, "second": 1}
    else:
        assert len([pair for pair in pairs if pair[0][0] == "first"]) == 2
    assert {number for (source, _), number in pairs if source == "first"}.isdisjoint(
        number for (source, _), number in pairs if source == "second"
    )
    for source in told:
        assert sum(source.sizes) == source.rows == ROWS[source.source]
        assert source.sizes == sorted(source.sizes, reverse=True)
    assert next(source.cosine for source in told if source.source == "first") > 0.95


def test_the_same_vectors_give_the_same_file(material: Path, tmp_path: Path) -> None:
    import faiss

    def made(name: str, **options: Any) -> bytes:
        options = {"rows_per_cluster": 5, "train_points": 4} | options
        cluster(material / "shards", material / "vectors", tmp_path / name, **options)
        return (tmp_path / name).read_bytes()

    first = made("a.parquet")
    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)
        assert made("b.parquet") == first
    finally:
        faiss.omp_set_num_threads(threads)
    assert made("c.parquet", seed=7) != first, "the control: the seed counts"
    plan = bgeprep.BatchPlan(material / "shards", batch_size=8, batch_by="cluster", clusters=tmp_path / "a.parquet")
    assert next(iter(plan))


def test_memory_is_that_of_the_sample(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    rows_at = Vectors.rows_at

    def watched(self: Vectors, places: Any) -> Any:
        asked.append(len(places))
        return rows_at(self, places)

    monkeypatch.setattr(Vectors, "rows_at", watched)
    monkeypatch.setattr("bgetrain.cluster._WINDOW", 16)
    cluster(material / "shards", material / "vectors", tmp_path / "c", rows_per_cluster=30, train_points=5)
    assert max(asked) == 16
    assert 15 in asked


def test_what_does_not_fit_is_refused(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards, vectors, out = material / "shards", material / "vectors", tmp_path / "c.parquet"
    with pytest.raises(PartsError, match=r"expected vectors of .* queries`, found those of .* passages`") as caught:
        cluster(shards, vectors / "passages", out)
    assert "bgetrain encode" in caught.value.hint
    with pytest.raises(PartsError, match="holds no vectors"):
        cluster(shards, tmp_path, out)
    with pytest.raises(LaunchError, match="no such folder"):
        cluster(shards, vectors, tmp_path / "absent" / "c.parquet")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.jsonl").write_text('{"text": "a text of its own"}\n')
    bgeprep.shard(tmp_path / "texts", tmp_path / "set", threads=1)
    with pytest.raises(ConfigError, match="expected a set of pairs"):
        cluster(tmp_path / "set", vectors, out)
    out.write_text("mine")
    with pytest.raises(LaunchError, match="exists"):
        cluster(shards, vectors, out)
    assert out.read_text() == "mine"
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LaunchError, match="needs the package faiss"):
        cluster(shards, vectors, out, overwrite=True)


def test_the_command(material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "topics.parquet")
    words = ["cluster", "--data", str(material / "shards"), "--vectors", str(material / "vectors"), "--out", out]
    assert main([*words, "--rows_per_cluster", "30", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].split() == ["source", "rows", "topics", "largest", "median", "smallest", "cosine"]
    assert said.err == ""
    assert main(words) == 1
    assert "hint: --overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--json"]) == 0
    assert [source["rows"] for source in json.loads(capsys.readouterr().out)["sources"]] == list(ROWS.values())
