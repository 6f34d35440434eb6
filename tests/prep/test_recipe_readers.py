"""What recipes are put together from: readers of packed files, lines, arrays, CSV, Parquet; the gathering of texts."""

from __future__ import annotations

import bz2
import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgeprep import ConfigError, CorpusError, recipes
from bgeprep.recipes import RawFile, Tally, json_array, lines
from bgeprep.recipes.csv_rows import csv_rows
from bgeprep.recipes.gather import as_ids, gathered
from bgeprep.recipes.html_text import html_text, tidy_text
from bgeprep.recipes.json_array import json_array as elements
from bgeprep.recipes.lines import text_lines
from bgeprep.recipes.opened import read_block
from bgeprep.recipes.parquet import parquet_objects
from bgeprep.recipes.passages import first_passage
from bgeprep.recipes.raw import Raw
from bgeprep.recipes.tab_separated import tab_rows

ROWS = [f"line {number}, with é and 中文 {'x' * (number % 97)}" for number in range(5000)]


def _file(path: Path, content: bytes, encoding: str = "utf-8") -> RawFile:
    path.write_bytes(content)
    return RawFile(path, path.name, encoding=encoding)


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, bz2.compress, lambda plain: pa.Codec("zstd").compress(plain).to_pybytes()]
)
def test_lines_however_they_are_packed(tmp_path: Path, pack: Any) -> None:
    plain = "\r\n".join(["\ufeff" + ROWS[0], *ROWS[1:2500], "", "  ", *ROWS[2500:]]).encode()
    file, tally = _file(tmp_path / "rows", pack(plain[:70_000]) + pack(plain[70_000:])), Tally()
    expected = [*enumerate(ROWS[:2500], 1), (2502, "  "), *enumerate(ROWS[2500:], 2503)]
    assert list(text_lines(file, tally)) == expected
    assert not tally.passed_over
    assert list(text_lines(_file(tmp_path / "empty", pack(b"")), tally)) == []


@pytest.mark.parametrize(
    ("pack", "said"),
    [
        (gzip.compress, "truncated"),
        (bz2.compress, "truncated"),
        (lambda plain: pa.Codec("zstd").compress(plain).to_pybytes(), "zstd"),
    ],
)
def test_half_a_packed_file_is_no_whole_one(tmp_path: Path, pack: Any, said: str) -> None:
    random.seed(1)
    plain = "\n".join(str(random.random()) for _ in range(200_000)).encode()
    file = _file(tmp_path / "rows", pack(plain)[:-5])
    with pytest.raises(CorpusError, match=said) as caught:
        list(text_lines(file, Tally()))
    assert caught.value.path == str(file.path)


@pytest.mark.parametrize(
    ("magic", "name"), [(b"7z\xbc\xaf\x27\x1c", "7-Zip"), (b"PK\x03\x04", "zip"), (b"Rar!\x1a", "rar")]
)
def test_archives_are_to_be_unpacked(tmp_path: Path, magic: bytes, name: str) -> None:
    with pytest.raises(CorpusError, match=rf"found {name}; hint: unpack it"):
        list(text_lines(_file(tmp_path / "all", magic + b"\0" * 50), Tally()))


def test_a_name_with_the_signs_of_a_glob_is_one_file(tmp_path: Path) -> None:
    for name in ("a[1].zst", "a1.zst", "b*.zst"):
        packed = pa.BufferOutputStream()
        with pa.CompressedOutputStream(packed, "zstd") as stream:
            stream.write(name.encode())
        assert list(text_lines(_file(tmp_path / name, packed.getvalue().to_pybytes()), Tally())) == [(1, name)]
        pl.DataFrame({"a": [name]}).write_parquet(tmp_path / f"{name}.parquet")
        assert list(parquet_objects(RawFile(tmp_path / f"{name}.parquet", name), ["a"])) == [(1, {"a": name})]


def test_lines_in_another_encoding(tmp_path: Path) -> None:
    content = "caf\u00e9 one\n".encode("latin-1") + "café two\n".encode() + b"\xff\xfe"
    tally = Tally()
    assert list(text_lines(_file(tmp_path / "rows", content), tally)) == [(2, "café two")]
    assert tally.as_dict()["examples"] == {"wrong_encoding": ["rows, line 1: café one", "rows, line 3: ÿþ"]}
    latin = list(text_lines(_file(tmp_path / "rows", content, "latin-1"), tally))
    assert latin[0] == (1, "café one")
    assert len(latin) == 3
    for bad in ("utf-16", "klingon"):
        with pytest.raises(ConfigError, match=r"options\.encoding"):
            Raw.find(tmp_path, options={"encoding": bad})
    zstd = _file(tmp_path / "rows.zst", pa.Codec("zstd").compress(content).to_pybytes())
    with pytest.raises(CorpusError, match="unpack it"):
        list(text_lines(zstd, tally))


def test_a_line_without_end_is_counted_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_LONGEST", 1000)
    monkeypatch.setattr(lines, "read_block", lambda raw, path: read_block(raw, path, 100))
    tally = Tally()
    file = _file(tmp_path / "rows", b"a\n" + b"x" * 5000 + b"\nb\n" + b"y" * 5000)
    assert list(text_lines(file, tally)) == [(1, "a"), (3, "b")]
    assert tally.as_dict()["examples"] == {"line_too_long": ["rows, line 2", "rows, line 4"]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(json_values, max_size=8),
    block=st.integers(1, 40),
    layout=st.sampled_from([(None, True), (None, False), (1, True), (3, False)]),
)
def test_elements_of_an_array_equal_what_json_loads(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], block: int, layout: tuple[int | None, bool]
) -> None:
    text = json.dumps(values, indent=layout[0], ensure_ascii=layout[1])
    file = _file(tmp_path_factory.mktemp("array") / "all.json", text.encode("utf-8", "surrogatepass"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "read_block", lambda raw, path: read_block(raw, path, block))
        assert list(elements(file, Tally())) == list(enumerate(values, 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found nothing"),
        ('{"a": 1}', "expected a JSON array, found {"),
        ('[{"a": 1}, {"b": ', "after element 1: broken or truncated"),
        ('[{"a": 1}', "after element 1: ends inside the array"),
        ("[1 2]", "after element 1: expected a comma, found 2"),
        ("[1,]", "after element 1: broken"),
        ("[1] [2]", "the array ends, and \\[ follows"),
        ('["\u00e9"]', "not utf-8"),
        ("[" * 100_000, "broken"),
    ],
)
def test_what_is_no_whole_array_says_so(tmp_path: Path, text: str, said: str) -> None:
    file = _file(tmp_path / "all.json", text.encode("latin-1"))
    with pytest.raises(CorpusError, match=said):
        list(elements(file, Tally()))


def test_csv_with_quotes_and_breaks_and_without_an_end(tmp_path: Path) -> None:
    content = b'a,b\r\n"one, two","she said ""no""\nand left"\r\n\r\nlast,row'
    rows = list(csv_rows(_file(tmp_path / "rows.csv", content), Tally()))
    assert rows == [(1, ["a", "b"]), (2, ["one, two", 'she said "no"\nand left']), (5, ["last", "row"])]


def test_csv_passes_over_rows_that_are_broken_or_in_another_encoding(tmp_path: Path) -> None:
    latin = 'e,"caf\u00e9\nq1,p2\n1"\n'.encode("latin-1")
    content = b'a,b\nc,"never closed\nd,"x"\n' + latin + b'f,"' + b"y" * 200_000 + b'"\ng,"open\nh,z\n'
    tally = Tally()
    rows = list(csv_rows(_file(tmp_path / "rows.csv", content), tally))
    assert [(number, cells[0], cells[1][:2]) for number, cells in rows] == [
        (1, "a", "b"),
        (3, "d", "x"),
        (7, "f", "yy"),
        (9, "h", "z"),
    ]
    assert tally.passed_over == {"broken_row": 2, "wrong_encoding": 1}
    assert tally.examples["broken_row"][0].startswith("rows.csv, line 2: ")
    assert tally.examples["wrong_encoding"][0].startswith("rows.csv, line 4: e, caf")
    with pytest.raises(CorpusError, match="line 1: expected a header in utf-8, found wrong_encoding") as caught:
        list(csv_rows(_file(tmp_path / "rows.csv", "h\u00e9,b\nc,d\n".encode("latin-1")), Tally()))
    assert caught.value.line == 1


def test_tabs_without_quoting(tmp_path: Path) -> None:
    tally = Tally()
    file = _file(tmp_path / "rows.tsv", b'id\ttext\n1\ta "quote\n2\n3\tx\ty\n')
    assert list(tab_rows(file, 2, tally, header=("id", "text"))) == [(2, ["1", 'a "quote'])]
    assert dict(tally.passed_over) == {"half_row": 1, "too_many_columns": 1}
    assert list(tab_rows(file, 2, Tally(), joined=True))[2] == (4, ["3", "x\ty"])


def test_parquet_that_is_damaged_or_has_other_columns(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}).write_parquet(tmp_path / "t.parquet")
    file = RawFile(tmp_path / "t.parquet", "t.parquet")
    assert list(parquet_objects(file, ["b", "c"])) == [(1, {"b": "x"}), (2, {"b": "y"})]
    with pytest.raises(CorpusError, match="expected columns c, found a, b"):
        list(parquet_objects(file, ["c"]))
    with pytest.raises(CorpusError, match="damaged"):
        list(parquet_objects(_file(tmp_path / "t.parquet", b"PAR1 and no more"), ["b"]))


@settings(max_examples=60, deadline=None)
@given(
    wanted=st.lists(st.lists(st.integers(0, 30).map(str), max_size=4), max_size=20),
    held=st.lists(st.integers(0, 30).map(str), max_size=40),
    parts=st.sampled_from([1, 2, 7, 300]),
)
def test_gathered_texts_equal_those_of_a_dictionary(wanted: list[list[str]], held: list[str], parts: int) -> None:
    texts = [(one, f"text {number} of {one}\n中") for number, one in enumerate(held)]
    ids = as_ids(one for some in wanted for one in some)
    records = np.repeat(np.arange(len(wanted)), [len(some) for some in wanted])
    last = dict(texts)
    expected = [(at, {one: last[one] for one in some if one in last}) for at, some in enumerate(wanted)]
    found = list(gathered(ids, records, texts, parts))
    assert found == [(at, texts_of) for at, texts_of in expected if texts_of]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>One &amp; two</p>\n\n<p>three<br/>four</p>", "One & two\nthree\nfour"),
        ("<ul><li>a</li><li><b>b</b> c</li></ul>", "a\nb c"),
        ("<pre><code>if (a &lt; b) {\n\treturn;\n}</code></pre>", "if (a < b) {\nreturn;\n}"),
        ("2 < 3 and <script>x < y</script> 4 > 3", "2 < 3 and 4 > 3"),
        ('<a href="x">link</a><!-- note\n<p> -->end&nbsp;now', "linkend now"),
        ("", ""),
        ("<" * 50_000, "<" * 50_000),
    ],
)
def test_html_to_text(markup: str, text: str) -> None:
    assert html_text(markup) == text


def test_tidy_text_keeps_what_is_no_entity() -> None:
    assert tidy_text(" AT&T &amp;  co\u00a0&lt;b&gt; \n\n \n next ") == "AT&T & co <b>\nnext"


@pytest.mark.parametrize(
    ("text", "most", "passage"),
    [
        ("short", 10, "short"),
        ("one\ntwo\nthree", 8, "one\ntwo"),
        ("one\ntwo\nthree", 7, "one\ntwo"),
        ("A first sentence. A second one goes on", 30, "A first sentence."),
        ("no stop in all of this text", 12, "no stop in"),
        ("没有空格的第一句。第二句还在继续", 12, "没有空格的第一句。"),
        ("x" * 20, 8, "x" * 8),
    ],
)
def test_a_passage_ends_where_something_ends(text: str, most: int, passage: str) -> None:
    assert first_passage(text, most) == passage


def test_raw_files_are_found_and_refused(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("part-10.json", "part-9.json", "b/part-1.json", "README.md", ".hidden.json"):
        (tmp_path / name).write_text("[]", encoding="utf-8")
    raw = Raw.find(tmp_path, options={})
    assert [file.origin for file in raw.files] == ["b/part-1.json", "part-9.json", "part-10.json"]
    assert [file.origin for file in raw.named(r"^part-")] == ["part-9.json", "part-10.json"]
    assert [file.origin for file in Raw.find(str(tmp_path / "part-*.json"), options={}).files] == [
        "part-9.json",
        "part-10.json",
    ]
    given_itself = Raw.find([tmp_path / "b", tmp_path / "part-9.json"], options={})
    assert [(file.origin, file.given) for file in given_itself.files] == [
        ("b/part-1.json", False),
        ("part-9.json", True),
    ]
    folder_matched = Raw.find(str(tmp_path / "*"), options={}).files
    assert {(file.origin, file.given) for file in folder_matched} == {
        ("part-1.json", False),
        ("part-9.json", True),
        ("part-10.json", True),
        ("README.md", True),
    }
    twice = Raw.find([tmp_path, tmp_path / "b/part-1.json"], options={}).files
    assert [(file.path.name, file.given) for file in twice] == [
        ("part-1.json", True),
        ("part-9.json", False),
        ("part-10.json", False),
    ]
    (tmp_path / "c").mkdir()
    (tmp_path / "c/part-9.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"two input files are both called part-9\.json"):
        Raw.find([tmp_path / "c/part-9.json", tmp_path / "part-9.json"], options={})
    with pytest.raises(CorpusError, match=r"expected files of X, found part-9.json"):
        Raw.find([tmp_path / "part-9.json"], options={}).named("nothing", expected="files of X")
    with pytest.raises(CorpusError, match="no such file"):
        Raw.find(tmp_path / "gone", options={})
    for options, said in [
        ({"passage_chars": "many"}, "whole number above 0, found 'many'"),
        ({"passage_chars": "0"}, "whole number above 0"),
        ({"colour": "red"}, "recipe wudao has no such option; hint: it has types, passage_chars, encoding"),
    ]:
        with pytest.raises(ConfigError, match=said):
            recipes.read("wudao", tmp_path, options=options)
    with pytest.raises(ConfigError, match="expected one of drop, keep"):
        recipes.read("medi", tmp_path / "part-9.json", options={"instructions": "maybe"})
