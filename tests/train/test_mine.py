"""Mining from end to end with a tiny model: what is known stays out, a kill changes nothing, hostile input is told."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bgeprep
from bgetrain import mine_run, mining, neighbours
from bgetrain.encode import Encoder
from bgetrain.pool import KnownPositives, PositiveTexts
from bgetrain.texts import ShardTexts
from tests.train.mine_material import ROWS, make_shards, mine, pairs, sentence, written
from tests.train.tiny import write_tiny_bert


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("data"))


LOOSE = ("--max_relative", "off", "--negative_number", 4)


def test_negatives_are_the_nearest_that_answer_no_row_of_the_query(model: Path, shards: Path, tmp_path: Path) -> None:
    assert mine(model, "--data", shards, "--out", tmp_path / "out", *LOOSE) == 0
    rows, before = list(bgeprep.open(tmp_path / "out")), list(bgeprep.open(shards))
    assert [(row["query"], row["pos"], row["origin_line"]) for row in rows] == [
        (row["query"], row["pos"], row["origin_line"]) for row in before
    ]
    encoder = Encoder.load(model)
    pool = sorted({text for row in before for text in (*row["pos"], *row["neg"])})
    vectors = encoder.encode(pool)
    answers: dict[str, set[str]] = {}
    for row in before:
        answers.setdefault(row["query"], set()).update(row["pos"])
    for row in rows:
        scores = vectors @ encoder.encode([row["query"]])[0]
        ranked = [pool[place] for place in np.argsort(-scores) if pool[place] not in answers[row["query"]]]
        assert row["neg"] == ranked[:4]
    assert not list(tmp_path.glob("*.work"))


def test_the_default_rule_bounds_scores_and_scores_are_written(model: Path, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "mined.jsonl"
    assert mine(model, "--data", shards, "--out", out, "--write_scores") == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len(bgeprep.open(shards))
    assert any(row["neg"] for row in rows)
    encoder = Encoder.load(model)
    lowest: dict[str, float] = {}
    for row in rows:
        lowest[row["query"]] = min(*row["pos_scores"], lowest.get(row["query"], 1.0))
    for row in rows:
        assert len(row.get("neg_scores", [])) == len(row["neg"])
        assert all(score <= 0.95 * lowest[row["query"]] + 1e-6 for score in row.get("neg_scores", []))
        query = encoder.encode([row["query"]])[0]
        assert np.allclose(encoder.encode(row["pos"]) @ query, row["pos_scores"], atol=1e-4)


def test_near_copies_of_positives_in_a_pool_are_left_out_and_the_window_would_take_them(
    model: Path, shards: Path, tmp_path: Path
) -> None:
    copies = {f"{row['pos'][0]} w{place % 50}" for place, row in enumerate(bgeprep.open(shards))}
    others = [" ".join(sentence(random.Random(seed))) for seed in range(300)]
    pool = written(tmp_path / "pool.jsonl", [{"text": text} for text in (*sorted(copies), *others)])
    shares = {}
    for name, words in {
        "default": (),
        "window": ("--range", "0-50", "--sampling", "top", "--max_relative", "off", "--near", "off"),
    }.items():
        out = tmp_path / f"{name}.jsonl"
        assert mine(model, "--data", shards, "--pool", pool, "--out", out, *words) == 0
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        chosen = [(text, row) for row in rows for text in row["neg"]]
        wrong = sum(text.startswith(row["pos"][0]) for text, row in chosen)
        shares[name] = wrong / len(rows)
        assert all(text in copies or text in others for text, _ in chosen)
    assert shares["default"] <= 0.01
    assert shares["window"] > 0.1


def test_a_killed_run_goes_on_to_the_same_result(
    monkeypatch: pytest.MonkeyPatch, model: Path, shards: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(mining, "QUERY_BLOCK", 16)
    words = ("--range", "3-40", "--sampling", "random", "--data", shards)
    assert mine(model, *words, "--out", tmp_path / "whole.jsonl") == 0

    searched: list[int] = []
    search = neighbours.Neighbours.search

    def dies(self: Any, queries: np.ndarray, k: int) -> Any:
        searched.append(len(queries))
        if len(searched) == 3:
            raise KeyboardInterrupt
        return search(self, queries, k)

    monkeypatch.setattr(neighbours.Neighbours, "search", dies)
    out = tmp_path / "again.jsonl"
    assert mine(model, *words, "--out", out) == 130
    assert not out.exists()
    assert mine(model, *words, "--out", out) == 0
    assert len(searched) == 3 + len(range(0, ROWS, 16)) - 2
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()

    # another size of blocks: nothing hangs on it
    monkeypatch.undo()
    assert mine(model, *words, "--out", tmp_path / "blocks.jsonl") == 0
    assert (tmp_path / "blocks.jsonl").read_bytes() == out.read_bytes()
    assert mine(model, *words, "--out", tmp_path / "seed.jsonl", "--seed", 7) == 0
    assert (tmp_path / "seed.jsonl").read_bytes() != out.read_bytes()


@pytest.mark.parametrize("name", ["out", "out.jsonl"])
def test_a_run_killed_between_its_result_and_its_report_goes_on(
    monkeypatch: pytest.MonkeyPatch, model: Path, shards: Path, tmp_path: Path, name: str
) -> None:
    write = mine_run.write_whole

    def dies(path: Path, content: Any) -> None:
        if path.name.endswith("mine.json"):
            raise KeyboardInterrupt
        write(path, content)

    out = tmp_path / name
    monkeypatch.setattr(mine_run, "write_whole", dies)
    assert mine(model, "--data", shards, "--out", out, *LOOSE) == 130
    assert out.exists()
    monkeypatch.undo()
    assert mine(model, "--data", shards, "--out", tmp_path / f"other-{name}", *LOOSE) == 0
    assert mine(model, "--data", shards, "--out", out, *LOOSE) == 0
    results = [path / "manifest.json" if path.is_dir() else path for path in (out, tmp_path / f"other-{name}")]
    assert results[0].read_bytes() == results[1].read_bytes()
    assert not list(tmp_path.glob("*.work"))


def test_the_same_command_again_is_up_to_date_and_another_is_refused(
    model: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert mine(model, "--data", shards, "--out", out, *LOOSE) == 0
    written_at = (out / "manifest.json").stat().st_mtime_ns
    assert mine(model, "--data", shards, "--out", out, *LOOSE) == 0
    assert "up to date" in capsys.readouterr().out
    assert (out / "manifest.json").stat().st_mtime_ns == written_at
    assert mine(model, "--data", shards, "--out", out) == 1
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert mine(model, "--data", shards, "--out", out, "--overwrite") == 0


def test_earlier_negatives_are_replaced_added_or_mixed(model: Path, shards: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    assert mine(model, "--data", shards, "--out", first, "--range", "20-60", *LOOSE) == 0
    found = {}
    for name, words in {
        "replace": ("--data", first),
        "add": ("--data", first, "--earlier", "add"),
        "mix": ("--from", first),
    }.items():
        assert mine(model, *words, "--out", tmp_path / name, *LOOSE) == 0
        found[name] = [row["neg"] for row in bgeprep.open(tmp_path / name)]
    for old, *new in zip([row["neg"] for row in bgeprep.open(first)], *found.values(), strict=True):
        replaced, added, mixed = new
        assert added[-4:] == replaced
        assert set(added) == {*old, *replaced}
        assert len(mixed) == 4
        assert len(set(mixed)) == 4
        assert sum(text in old for text in mixed) >= 2
        assert mixed[2:] == replaced[:2]


def test_rows_of_classification_sources_stay_as_they_are(model: Path, tmp_path: Path) -> None:
    rows = pairs()
    files = {"classes": rows[:20], "asked": rows[20:]}
    sources = tuple(
        bgeprep.SourceConfig(
            name=name,
            path=(str(written(tmp_path / f"{name}.jsonl", own)),),
            task="classification" if name == "classes" else "retrieval",
        )
        for name, own in files.items()
    )
    bgeprep.shard(out=tmp_path / "set", config=bgeprep.PrepConfig(sources=sources))
    assert mine(model, "--data", tmp_path / "set", "--out", tmp_path / "out", *LOOSE) == 0
    for before, after in zip(bgeprep.open(tmp_path / "set"), bgeprep.open(tmp_path / "out"), strict=True):
        assert (after["neg"] == before["neg"]) == (before["source"] == "classes")


def test_what_is_known_of_a_query_is_of_all_rows_with_it(shards: Path) -> None:
    queries = ShardTexts(shards, "queries")
    known = KnownPositives(shards, queries)
    rows = list(bgeprep.open(shards))
    for number, (key, _) in enumerate(queries):
        own = {exact for row in rows if row["query_exact_key"] == key for exact in row["pos_exact_keys"]}
        assert set(known.positives[known.offsets[number] : known.offsets[number + 1]].tolist()) == own
        names, _ = known.known(range(number, number + 1))
        assert own | {key} <= set(names.tolist())
    assert {text for _, text in PositiveTexts(shards)} == {text for row in rows for text in row["pos"]}


def test_hostile_input_is_told(model: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "folder").mkdir()
    bare = written(tmp_path / "bare.jsonl", [{"query": "w1 w2", "pos": []}, {"query": "w1 w3", "pos": []}])
    out = ("--out", tmp_path / "out")
    for words, code, told in [
        (("--data", shards, "--pool", tmp_path / "empty.jsonl", *out), 1, "no texts"),
        (("--data", shards, "--pool", tmp_path / "folder", *out), 1, "expected a shard set"),
        (("--data", tmp_path / "folder", *out), 1, "found none"),
        (("--data", tmp_path / "absent", *out), 2, "no such file or folder"),
        (("--data", bare, *out), 1, "keeps no row|kept|no row"),
        (("--data", shards, *out, "--range", "9-3"), 2, "--range"),
        (("--data", shards, *out, "--range", "ten"), 2, "--range"),
        (("--data", shards, *out, "--max_relative", "much"), 2, "--max_relative"),
        (("--data", shards, "--out", shards), 2, "is what is read"),
        (out, 2, "--data or --from"),
        (("--data", shards, "--out", "/proc/nowhere/out"), 1, "nowhere"),
    ]:
        assert mine(model, *words) == code, words
        error = capsys.readouterr().err
        assert error.startswith("error: ") or "\nerror: " in error
        assert any(part in error for part in told.split("|")), error
    with pytest.raises(SystemExit) as refused:
        mine(model, "--data", shards, *out, "--unknown", 1)
    assert refused.value.code == 2


def test_a_pool_smaller_than_the_window_gives_what_there_is(
    model: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = written(tmp_path / "pool.jsonl", [{"text": "w1 w2 w3"}, {"text": "w4 w5 w6"}])
    words = ("--data", shards, "--pool", pool, "--out", tmp_path / "out.jsonl", "--max_relative", "off")
    assert mine(model, *words) == 0
    assert "queries have fewer negatives than asked for" in capsys.readouterr().out
    assert mine(model, *words, "--range", "10-210", "--overwrite") == 0
    said = capsys.readouterr()
    assert "--range begins at 10, and the pool has 2 passages" in said.err
    assert "rows have no negative" in said.out
