"""Sentence pairs in the shapes in which they are found, and what is said of those that cannot be used."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from bgetrain.collection import CollectionError
from bgetrain.sentence_pairs import find_sentence_pairs, open_sentence_pairs

ORIGINALS = os.environ.get("BGE_DATA", "")


def write(path: Path, text: str | bytes) -> Path:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", 'one "x\ttwo\t1.5\nthree\tfour\t0\n'),
        ("a.tsv.gz", '\ufeffone "x\ttwo\t1.5\r\n\r\nthree\tfour\t0'),
        # the header of STS-B, and columns that nobody asked for
        ("a.tsv", 'index\tscore\tsentence1\tsentence2\n7\t1.5\tone "x\ttwo\n8\t0\tthree\tfour\n'),
        ("a.tsv", 'S1\tS2\tScore\n one "x\ttwo \t1.5\nthree\tfour\t0\n'),
        ("a.jsonl", '{"sentence1": "one \\"x", "sentence2": "two", "score": 1.5}\n'
         '{"score": 0, "sentence2": "four", "sentence1": "three"}'),
    ],
)  # fmt: skip
def test_scores_are_read_in_every_shape(tmp_path: Path, name: str, text: str) -> None:
    pairs = open_sentence_pairs(write(tmp_path / name, text), "sts")
    assert (pairs.name, pairs.kind, len(pairs), pairs.left_out) == ("a", "sts", 2, 0)
    assert (pairs.first, pairs.second) == (['one "x', "three"], ["two", "four"])
    assert pairs.labels.tolist() == [1.5, 0.0]


def test_labels_in_words_and_figures(tmp_path: Path) -> None:
    text = "a\tb\t1\nc\td\t0\ne\tf\tentailment\ng\th\tcontradiction\ni\tj\tneutral\nk\tl\t-\nm\tn\tTrue\n"
    pairs = open_sentence_pairs(write(tmp_path / "a.tsv", text), "pairs")
    assert pairs.labels.tolist() == [1, 0, 1, 0, 1]
    assert pairs.left_out == 2
    assert pairs.first == ["a", "c", "e", "g", "m"]


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("sts", "", r"a\.tsv: no pairs"),
        ("sts", "sentence1\tsentence2\tscore\n", "no pairs: expected pairs with different scores"),
        ("sts", "a\tb\t1\nc\td\t1\n", "all 2 pairs have 1: expected pairs with different scores"),
        ("sts", "a\tb\t1\nc\td\tgood\n", r"a\.tsv:2: expected a score, found 'good'"),
        ("sts", "a\tb\tnan\n", r"a\.tsv:1: expected a score, found 'nan'"),
        ("sts", "a\tb\t1\nc\td\tinf\n", r"a\.tsv:2: expected a score, found 'inf'"),
        ("sts", "a\tb\tentailment\n", "expected a score, found 'entailment'"),
        ("sts", "a\tb\t1\nc\td\n", r"a\.tsv:2: expected 3 columns, found 2"),
        ("sts", "a,b,1\n", "expected three columns with tabs between, or a header, found 1"),
        ("sts", "a\tb\tc\t1\n", "or a header, found 4"),
        ("pairs", "a\tb\t1\nc\td\t3.5\n", r"a\.tsv:2: expected 1 or 0 .*, found '3.5'"),
        ("pairs", "a\tb\t1\nc\td\t1\n", "all 2 pairs have 1: expected pairs with 1 and pairs with 0"),
        ("pairs", "a\tb\t-\nc\td\tneutral\n", "no pairs: expected pairs with 1 and pairs with 0"),
        ("sts", "a\tb\t1\nü\tb\t2\n".encode("latin-1"), "not valid UTF-8 after line"),
        ("sts", "a\tb\t1\n".encode("utf-16"), "not valid UTF-8 after line 0"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, kind: str, text: str | bytes, message: str) -> None:
    with pytest.raises(CollectionError, match=message) as error:
        open_sentence_pairs(write(tmp_path / "a.tsv", text), kind)
    assert not str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]\n", r"a\.jsonl:1: expected an object, found list"),
        ("{\n", r"a\.jsonl:1: not valid JSON"),
        ('{"query": "a", "pos": ["b"]}\n', "found query, pos"),
        ('{"sentence1": "a", "sentence2": 5, "score": 1}\n', "expected two texts"),
        ('{"sentence1": "\\ud800", "sentence2": "b", "score": 1}\n', "half a surrogate pair"),
        ('{"sentence1": "a", "sentence2": "b", "score": null}\n', "expected a score, found 'None'"),
    ],
)
def test_broken_json_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CollectionError, match=message):
        open_sentence_pairs(write(tmp_path / "a.jsonl", text), "sts")


def test_a_broken_gzip_file_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b"a\tb\t1\nc\td\t2\n" * 5000)
    (tmp_path / "a.tsv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CollectionError, match="broken gzip file"):
        open_sentence_pairs(tmp_path / "a.tsv.gz", "sts")


def test_a_folder_gives_its_files(tmp_path: Path) -> None:
    for name in ("b.tsv", "a.jsonl", "c.tsv.gz", "notes.txt"):
        write(tmp_path / name, "x\ty\t1\n")
    assert [path.name for path in find_sentence_pairs(tmp_path, "sts")] == ["a.jsonl", "b.tsv", "c.tsv.gz"]
    assert find_sentence_pairs(tmp_path / "b.tsv", "sts") == [tmp_path / "b.tsv"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(CollectionError, match="no file that ends in"):
        find_sentence_pairs(tmp_path / "empty", "pairs")
    with pytest.raises(CollectionError, match="no such file or folder"):
        find_sentence_pairs(tmp_path / "nowhere", "pairs")


@pytest.mark.skipif(not ORIGINALS, reason="BGE_DATA names no folder with the published files")
def test_ocnli_as_published() -> None:
    pairs = open_sentence_pairs(Path(ORIGINALS) / "ocnli" / "dev.json.gz", "pairs")
    assert (len(pairs), int(pairs.labels.sum()), pairs.left_out) == (1847, 947, 1153)
