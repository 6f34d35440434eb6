"""Sets of texts: documents in, documents out, through the same stages and promises as pairs."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import bgeprep
from bgeprep import BatchLoader, CorpusError, PrepConfig, ShardError, TextLoader
from bgeprep._native import text_key
from bgeprep.cli import main
from bgeprep.report import report
from tests.prep.test_shard import SMALL_PARTS, bytes_of

COLUMNS = ["text", "title", "text_key", "text_exact_key", "source", "origin_file", "origin_line"]


def _write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def _exact(mode: Any = "exact") -> PrepConfig:
    return PrepConfig(dedup=bgeprep.DedupConfig(mode=mode))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory, documents: list[dict[str, str]]) -> Path:
    """Real documents in every format that is read, a source each."""
    folder = tmp_path_factory.mktemp("corpus") / "texts"
    folder.mkdir()
    share = [documents[number::6] for number in range(6)]
    titled = [{"title": f"Document {number}", "text": one["text"]} for number, one in enumerate(share[0])]
    _write(folder / "lines.jsonl", titled)
    with gzip.open(folder / "packed.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(json.dumps({"_id": str(n), "text": one["text"]}) for n, one in enumerate(share[1])))
    (folder / "array.json").write_text(json.dumps(share[2]), encoding="utf-8")
    pl.DataFrame(share[3]).write_csv(folder / "table.csv")
    pl.DataFrame(share[4]).write_parquet(folder / "columns.parquet")
    pl.DataFrame(share[5]).write_ipc(folder / "batches.arrow")
    return folder


@pytest.fixture(scope="module")
def shards(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set") / "shards"
    bgeprep.shard(texts, out, config=_exact())
    return out


def test_every_format_gives_its_documents(shards: Path, documents: list[dict[str, str]]) -> None:
    rows = bgeprep.open(shards)
    assert rows.kind == rows.manifest["kind"] == "text"
    assert {row["source"] for row in rows} == {"lines", "packed", "array", "table", "columns", "batches"}
    assert {row["text"] for row in rows} == {" ".join(one["text"].split()) for one in documents}
    for row in rows:
        assert list(row) == COLUMNS
        assert row["text_key"] == row["text_exact_key"] == text_key(row["text"])
        if row["source"] == "lines":
            assert row["title"] == f"Document {row['origin_line'] - 1}"


def test_other_software_reads_the_parts(shards: Path) -> None:
    rows = bgeprep.open(shards)
    frame = rows.scan().collect()
    assert frame.columns == COLUMNS
    assert frame.to_dicts() == list(rows)
    assert pl.DataFrame(rows).equals(frame)
    assert pl.read_ipc(next(shards.rglob("*.arrow"))).columns == COLUMNS


def test_counts_balance_and_what_went_is_listed(tmp_path: Path) -> None:
    same = "The heart pumps blood through the body, and the blood carries oxygen to every organ."
    records: list[dict[str, Any]] = [
        {"title": "The heart", "text": same},
        {"title": "Another title", "text": same.upper()},
        {"text": "x"},
        {"text": "  "},
        {"title": "No text", "text": None},
        {"title": 3, "text": "A title that is no text makes a record that cannot be read."},
        {"title": None, "text": "A text whose title is null is a text without a title."},
        {"text": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
        {"text": "Lungs take in air.", "label": 1, "lang": "en"},
    ]
    _write(tmp_path / "in.jsonl", records)
    config = PrepConfig(dedup=bgeprep.DedupConfig(mode="exact"), read=bgeprep.ReadConfig(max_bad=0.5))
    bgeprep.shard(tmp_path / "in.jsonl", tmp_path / "out", config=config)
    found = bgeprep.inspect(tmp_path / "out")
    assert found["kind"] == "text"
    assert sorted(row["origin_line"] for row in bgeprep.open(tmp_path / "out")) == [1, 7, 9]
    assert found["rows_read"] == 9 == found["rows_kept"] + sum(found["dropped"].values())
    assert found["dropped"]["duplicate"] == 1
    assert found["sources"][0]["unmapped"] == {"label": 1, "lang": 1}
    assert set(found["sources"][0]["lengths"]) == {"title", "text"}
    rejects = {row["origin_line"]: row for row in pl.read_parquet(tmp_path / "out/rejects/*.parquet").to_dicts()}
    assert {line: row["reason"] for line, row in rejects.items()} == {
        2: "duplicate",
        3: "too_short",
        4: "empty_field",
        5: "empty_field",
        6: "unknown_shape",
        8: "repeated_characters",
    }
    assert rejects[2]["twin_line"] == 1
    assert (rejects[2]["query"], rejects[2]["text"]) == ("Another title", same.upper())
    assert rejects[3]["detail"].startswith("text: expected")


def test_near_texts_go_by_their_own_similarity(tmp_path: Path, documents: list[dict[str, str]]) -> None:
    long = [one["text"] for one in documents if len(one["text"]) > 300][:40]
    records = [{"title": f"t{number}", "text": text} for number, text in enumerate(long)]
    # The titles of copies differ as much as titles can: they have no say.
    copies = [{"title": f"other {number}", "text": text + " Indeed."} for number, text in enumerate(long)]
    _write(tmp_path / "in.jsonl", records + copies)
    bgeprep.shard(tmp_path / "in.jsonl", tmp_path / "near", config=_exact("near"))
    found = bgeprep.inspect(tmp_path / "near")
    assert found["dropped"]["near_duplicate"] >= 39
    assert all(row["text_key"] <= row["text_exact_key"] for row in bgeprep.open(tmp_path / "near"))
    rejects = pl.read_parquet(tmp_path / "near/rejects/*.parquet").filter(reason="near_duplicate")
    assert rejects["similarity"].min() >= 0.8  # type: ignore[operator]
    # A document may be near another one, too; most went for the copy they were made into.
    assert (rejects["origin_line"] - rejects["twin_line"] == 40).sum() >= 38
    assert bgeprep.verify(tmp_path / "near")["ok"]
    bgeprep.shard(tmp_path / "in.jsonl", tmp_path / "exact", config=_exact())
    assert bgeprep.inspect(tmp_path / "exact")["dropped"] == {}
    bgeprep.shard(tmp_path / "in.jsonl", tmp_path / "none", config=_exact("none"))
    assert len(bgeprep.open(tmp_path / "none")) == 80


@pytest.mark.parametrize("mode", ["exact", "near"])
def test_same_bytes_for_any_number_of_threads(texts: Path, tmp_path: Path, mode: str) -> None:
    config = PrepConfig(dedup=bgeprep.DedupConfig(mode=mode), shard=SMALL_PARTS.shard)
    for threads in (1, 3):
        bgeprep.shard(texts, tmp_path / str(threads), config=config, threads=threads)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "3")


def test_a_folder_of_both_kinds_names_the_files(
    tmp_path: Path, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    _write(folder / "pairs.jsonl", [{"query": f"a question {n}", "pos": [f"an answer {n}"]} for n in range(5)])
    (folder / "texts.jsonl").write_bytes((texts / "lines.jsonl").read_bytes())
    with pytest.raises(CorpusError) as raised:
        bgeprep.shard(folder, tmp_path / "out")
    assert "texts.jsonl:1" in str(raised.value)
    assert "pairs.jsonl:1 holds a pair" in str(raised.value)
    assert main(["shard", "--in", str(folder), "--out", str(tmp_path / "out")]) == 1
    assert "a set has one kind" in capsys.readouterr().err
    assert not (tmp_path / "out/manifest.json").exists()


def test_verbs_for_people(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(shards)]) == 0
    shown = capsys.readouterr().out
    assert "title    text" in shown
    assert main(["show", str(shards), "-n", "2", "--source", "lines"]) == 0
    shown = capsys.readouterr().out
    assert "  title  Document" in shown
    assert "  text   " in shown
    assert main(["show", str(shards), "-n", "1", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == COLUMNS


def test_damage_is_found(shards: Path, texts: Path, tmp_path: Path) -> None:
    assert bgeprep.verify(shards)["ok"]
    bgeprep.shard(texts, tmp_path / "set", config=_exact())
    part = next((tmp_path / "set").rglob("*.arrow"))
    whole = part.read_bytes()
    for place in (len(whole) // 3, len(whole) // 2):
        part.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found = bgeprep.verify(tmp_path / "set")
        assert not found["ok"]
        assert part.name in found["problems"][0]
        with pytest.raises(ShardError, match="damaged"):
            list(bgeprep.open(tmp_path / "set"))


def test_a_set_is_an_input_again(shards: Path, texts: Path, tmp_path: Path) -> None:
    bgeprep.shard(shards, tmp_path / "again", config=_exact())
    rows = list(bgeprep.open(tmp_path / "again"))
    assert rows == list(bgeprep.open(shards))
    # With near keys: those that the set has are kept.
    long = "Magnets attract iron because their field aligns the atoms of the metal, which then has poles. " * 4
    _write(
        tmp_path / "near.jsonl", [{"text": long}, {"text": long + "So it is."}, {"text": long + "It is so, you see."}]
    )
    bgeprep.shard(tmp_path / "near.jsonl", tmp_path / "near", config=_exact("near"))
    bgeprep.shard(tmp_path / "near", tmp_path / "kept")
    assert list(bgeprep.open(tmp_path / "kept")) == list(bgeprep.open(tmp_path / "near"))
    # What another set holds is not wanted twice.
    _write(tmp_path / "more.jsonl", [{"text": row["text"]} for row in rows[:50]] + [{"text": "This text is new."}])
    bgeprep.shard(
        tmp_path / "more.jsonl", tmp_path / "fresh", config=dataclasses.replace(_exact(), against=(str(shards),))
    )
    assert [row["text"] for row in bgeprep.open(tmp_path / "fresh")] == ["This text is new."]


def test_each_loader_names_the_other_kind(shards: Path, word_piece: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="expected a set of pairs, found texts; hint: open it with TextLoader"):
        BatchLoader(shards, word_piece, batch_size=4)
    pairs = _write(tmp_path / "pairs.jsonl", [{"query": f"a question {n}", "pos": [f"answer {n}"]} for n in range(5)])
    bgeprep.shard(pairs, tmp_path / "pairs")
    assert bgeprep.open(tmp_path / "pairs").kind == "pairs"
    assert bgeprep.inspect(tmp_path / "pairs")["format_version"] == 2
    with pytest.raises(ShardError, match="expected a set of texts, found pairs; hint: open it with BatchLoader"):
        TextLoader(tmp_path / "pairs", word_piece, batch_size=4)
    assert not (tmp_path / "pairs/.blocks").exists()


def test_scores_are_of_pairs(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hashes = pl.Series([b"0" * 16], dtype=pl.Binary)
    pl.DataFrame({"query_hash": hashes, "pos_hash": hashes, "score": [0.5]}).write_parquet(tmp_path / "scores.parquet")
    out = ["--out", str(tmp_path / "out"), "--scores", str(tmp_path / "scores.parquet"), "--min-score", "0.4"]
    assert main(["shard", "--in", str(texts), *out]) != 0
    assert "score" in capsys.readouterr().err


def test_plain_text_is_cut_as_it_is_told(tmp_path: Path, documents: list[dict[str, str]]) -> None:
    """Blank lines, files or lines: the same documents, each with the line it starts on."""
    texts = [" ".join(one["text"].split()) for one in documents[:40]]
    folder = tmp_path / "in"
    (folder / "whole").mkdir(parents=True)
    with gzip.open(folder / "paragraphs.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n\n \n".join(text.replace(". ", ".\n") for text in texts))
    for number, text in enumerate(texts):
        (folder / "whole" / f"{number:02}.txt").write_text(text.replace(". ", ".\n\n"), encoding="utf-8")
    (folder / "news").write_text("\n".join(texts), encoding="utf-8")
    config = tmp_path / "mix.toml"
    config.write_text(
        '[dedup]\nmode = "none"\n'
        '[[sources]]\nname = "paragraphs"\npath = "in/paragraphs.txt.gz"\n'
        '[[sources]]\nname = "whole"\npath = "in/whole"\ncut = "document"\n'
        '[[sources]]\nname = "lines"\npath = "in/news"\nformat = "txt"\ncut = "line"\n',
        encoding="utf-8",
    )
    bgeprep.shard(out=tmp_path / "set", config=config)
    rows = list(bgeprep.open(tmp_path / "set"))
    for source in ("paragraphs", "whole", "lines"):
        assert {row["text"] for row in rows if row["source"] == source} == set(texts)
    assert all(texts[row["origin_line"] - 1] == row["text"] for row in rows if row["source"] == "lines")
    wanted = 1
    starts = {row["text"]: row["origin_line"] for row in rows if row["source"] == "paragraphs"}
    for text in texts:
        assert starts[text] == wanted
        wanted += text.count(". ") + 3


def test_text_without_blank_lines_asks_how_it_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "news.txt").write_text("One article a line, and no blank one.\n" * 4000, encoding="utf-8")
    assert main(["shard", "--in", str(tmp_path / "news.txt"), "--out", str(tmp_path / "set"), "--quiet"]) == 1
    assert 'cut = "line"' in capsys.readouterr().err
    flags = ["--cut", "line", "--dedup", "none", "--quiet"]
    assert main(["shard", "--in", str(tmp_path / "news.txt"), "--out", str(tmp_path / "set"), *flags]) == 0
    assert len(bgeprep.open(tmp_path / "set")) == 4000


def test_the_report_speaks_of_documents(tmp_path: Path, documents: list[dict[str, str]]) -> None:
    records: list[dict[str, Any]] = [{"text": one["text"]} for one in documents]
    records += [{"title": "Again", "text": one["text"] + " More."} for one in documents[:20]] + [{"text": "x"}]
    _write(tmp_path / "corpus.jsonl", records)
    bgeprep.shard(tmp_path / "corpus.jsonl", tmp_path / "set")
    found = report(tmp_path / "set", tmp_path / "page.html")
    assert (found["kind"], found["sources"][0]["task"]) == ("text", "text")
    assert found["dropped"]["near_duplicate"] >= 15
    lengths = found["lengths"]["sources"][0]
    assert sum(lengths["pos"]) == sum(lengths["query"]) == found["rows_kept"]
    pair = next(one for one in found["samples"]["pairs"] if one["reason"] == "near_duplicate")
    assert pair["stays"]["text"][:100] == pair["text"][:100]
    assert json.loads(json.dumps(found)) == found
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<dt>title</dt>" in page
    assert "<dt>text</dt>" in page
    for word in ("Queries", "Negatives", "Positives", "<dt>query</dt>", "<dt>positive</dt>", "<dt>passage</dt>"):
        assert word not in page
    report(tmp_path / "set", tmp_path / "again.html", title="set")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page
