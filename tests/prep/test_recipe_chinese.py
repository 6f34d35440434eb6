"""Chinese text: script, width, sentences and passages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgeprep import ConfigError, recipes
from bgeprep.recipes.chinese import half_width, passages, sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("他说：“好。”她走了！真的？！是；对…完", ["他说：“好。”", "她走了！", "真的？！", "是；", "对…", "完"]),
        ("（一句。）『两句！』」三", ["（一句。）", "『两句！』」", "三"]),
        ("版本3.14与a.b.c很好. 下一句。", ["版本3.14与a.b.c很好. ", "下一句。"]),
        ("第一行\n第二行\n\n第三行", ["第一行\n", "第二行\n\n", "第三行"]),
        ("……。", ["……。"]),
        ("没有结尾", ["没有结尾"]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(st.text(alphabet="甲乙a1 。！？…“”」.\n", max_size=80), st.integers(1, 20))
def test_nothing_is_lost_and_nothing_too_long(text: str, longest: int) -> None:
    assert "".join(sentences(text)) == text
    cut = passages(text, longest)
    assert all(len(one) <= longest and one == one.strip() and one for one in cut)
    assert "".join("".join(cut).split()) == "".join(text.split())


def test_passages_end_with_sentences_where_they_can() -> None:
    assert passages("一二三。四五。六七八九十。", 7) == ["一二三。四五。", "六七八九十。"]
    assert passages("一二三四五六七八九。十。", 4) == ["一二三四", "五六七八", "九。十。"]
    assert passages("  ", 4) == []
    with pytest.raises(ConfigError, match="passage_chars"):
        passages("一", 0)


def test_letters_digits_and_spaces_are_made_half_width_and_nothing_else() -> None:
    assert half_width("ＡＢＣ　ｘｙｚ０９，。！（）～￥") == "ABC xyz09，。！（）～￥"


def _edits(folder: Path) -> Path:
    (folder / "insertions.tsv").write_text("頭髮乾淨，發展　\tＡ\t後來的皇后１２", encoding="utf-8")
    return folder


def test_a_recipe_writes_one_script_and_one_width_where_it_is_asked(tmp_path: Path) -> None:
    pytest.importorskip("opencc", reason="the extra zh is not installed")
    read = recipes.read("wiki-atomic-edits", _edits(tmp_path), options={"script": "simplified", "width": "half"})
    (frame,) = read["wiki-atomic-edits"]
    assert frame.row(0)[:2] == ("头发干净，发展", ["后来的皇后12"])
    (as_published,) = recipes.read("wiki-atomic-edits", tmp_path)["wiki-atomic-edits"]
    assert as_published.row(0)[:2] == ("頭髮乾淨，發展", ["後來的皇后１２"])


def test_a_package_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opencc", None)
    with pytest.raises(ConfigError, match=r"bgeprep\[zh\]"):
        recipes.read("wiki-atomic-edits", _edits(tmp_path), options={"script": "simplified"})
