"""Recipes: published files in, records out, the same ones each time, and what is passed over is counted."""

from __future__ import annotations

import bz2
import html
import itertools
import json
from pathlib import Path

import polars as pl
import pytest

import bgeprep
from bgeprep import ConfigError, CorpusError, recipes
from bgeprep.cli import main
from bgeprep.convert import convert
from bgeprep.recipes.wikipedia import plain_text

HEADER = """<mediawiki xml:lang="zh"><siteinfo><namespaces>
<namespace key="6" case="first-letter">Datei</namespace><namespace key="14" case="first-letter">Kategorie</namespace>
</namespaces></siteinfo>
"""
ARTICLE = """'''Der Fluss''' [[Datei:A.jpg|mini|ein [[Bild]]]] ist lang &amp; breit.[[Kategorie:Fluss]]
== Literatur ==
Ein Buch."""


def _page(title: str, text: str, namespace: int = 0, extra: str = "", model: str = "wikitext") -> str:
    return (
        f"<page>\n<title>{html.escape(title)}</title>\n<ns>{namespace}</ns>\n<id>7</id>{extra}\n<revision><id>1</id>"
        f'<comment>c &lt;text&gt;</comment><model>{model}</model>\n<text xml:space="preserve">{html.escape(text)}'
        "</text></revision>\n</page>\n"
    )


PAGES = [
    _page("A & B", ARTICLE),
    _page("Old", "#REDIRECT [[New]]", extra='<redirect title="New" />'),
    _page("旧", "#重定向 [[新]]"),
    _page("Talk:A", "Chatter.", namespace=1),
    _page("Code", "return {}", model="Scribunto"),
    _page("Empty", "{{only a template}}"),
    "<page><ns>0</ns></page>\n",
    *(_page(f"Page {number}", f"Text number {number}. " * 40) for number in range(2000)),
]


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multistream dump of more than one block, whose streams do not end where pages do."""
    whole = (HEADER + "".join(PAGES) + "</mediawiki>\n").encode()
    cut = [0, 300, 5000, 70_001, len(whole)]
    path = tmp_path_factory.mktemp("dump") / "dewiki-latest-pages-articles-multistream.xml.bz2"
    path.write_bytes(b"".join(bz2.compress(whole[a:b], 1) for a, b in itertools.pairwise(cut)))
    return path


def test_a_dump_gives_its_articles_each_time_and_counts_the_rest(dump: Path) -> None:
    stream = recipes.read("wikipedia", dump)["wikipedia"]
    first = pl.concat(list(stream))
    assert first.height == 2001
    assert first.row(0) == ("A & B", "Der Fluss ist lang & breit.\nEin Buch.", dump.name, 1)
    assert first["origin_line"].to_list()[1:] == list(range(8, 2008))
    assert stream.purpose.language == "de"
    assert first["title"].to_list()[1:] == [f"Page {number}" for number in range(2000)]
    counts = stream.tally.as_dict()
    expected = {"broken_page": 1, "no_text": 1, "no_wikitext": 1, "other_namespace": 1, "redirect": 2}
    assert (counts["records"], counts["passed_over"]) == (2001, expected)
    assert counts["examples"]["redirect"] == [f"{dump.name}, page 2: Old", f"{dump.name}, page 3: 旧"]
    assert pl.DataFrame(stream).equals(first)
    assert stream.tally.as_dict() == counts
    many = recipes.read("wikipedia", [dump.parent], processes=2)["wikipedia"]
    assert pl.concat(list(many)).equals(first)
    assert many.tally.as_dict() == counts


def test_converted_or_streamed_it_is_the_same_set_of_texts(dump: Path, tmp_path: Path) -> None:
    flags = ["convert", "--recipe", "wikipedia", "--in", str(dump), "--out", str(tmp_path / "texts"), "--quiet"]
    assert main([*flags, "--processes", "1"]) == 0
    assert {path.name for path in (tmp_path / "texts").iterdir()} == {"wikipedia.jsonl", "_recipe.json", "mix.toml"}
    summary = json.loads((tmp_path / "texts/_recipe.json").read_text(encoding="utf-8"))
    assert summary["sources"]["wikipedia"]["passed_over"]["redirect"] == 2
    bgeprep.shard(tmp_path / "texts", tmp_path / "a")
    bgeprep.shard(recipes.read("wikipedia", dump), tmp_path / "b")
    a, b = bgeprep.open(tmp_path / "a"), bgeprep.open(tmp_path / "b")
    assert a.kind == b.kind == "text"
    assert {(row["title"], row["text"]) for row in a} == {(row["title"], row["text"]) for row in b}
    assert main(flags) == 1, "what is there is not written over unasked"
    assert main([*flags, "--processes", "1", "--overwrite"]) == 0


def test_what_is_no_dump_or_half_of_one_says_so(dump: Path, tmp_path: Path) -> None:
    (tmp_path / "half.xml.bz2").write_bytes(dump.read_bytes()[:-50])
    (tmp_path / "cut.xml").write_text(HEADER + PAGES[0] + PAGES[-1][:40], encoding="utf-8")
    (tmp_path / "other.xml").write_text("<feed>" + "x" * 3_000_000 + "</feed>", encoding="utf-8")
    for name, said in [("half.xml.bz2", "truncated"), ("cut.xml", "ends inside page 2"), ("other.xml", "MediaWiki")]:
        with pytest.raises(CorpusError, match=said):
            convert("wikipedia", tmp_path / name, tmp_path / "out")
        assert not list((tmp_path / "out").iterdir()), "nothing half-written stays"
        with pytest.raises(CorpusError, match=said):
            bgeprep.shard(recipes.read("wikipedia", tmp_path / name), tmp_path / "set")
    with pytest.raises(ConfigError, match="did you mean wikipedia"):
        convert("wikipdia", dump, tmp_path / "out")


def test_recipes_are_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert "wikipedia" in recipes.names()
    assert main(["recipes"]) == 0
    assert "wikipedia" in capsys.readouterr().out
    for name in recipes.names():
        assert main(["recipes", "show", name]) == 0
        said = capsys.readouterr().out
        assert all(part in said for part in ("licence", "where", "raw", "makes", "citation"))
        assert recipes.find(name).name == name
    assert main(["recipes", "show"]) == 2


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("'''Bold''' and ''italic'', ''''both''''", "Bold and italic, both"),
        ("{{Infobox|a={{nested|{{deep}}}}|b=c}}Text.", "Text."),
        ("A {{broken template.\n\nStill {{here}} text.", "A broken template.\nStill text."),
        ("Stray }} and ]] and |} stay out.", "Stray and and |} stay out."),
        ("{{Infobox\n| a = 1\n| b =\n|}}After.", "After."),
        ("{|\n! h\n|-\n| a || {{t|\n{|\n| x\n|}}} \n|}\nAfter.", "After."),
        (":{| class=x\n| a\n|}\nAfter.", "After."),
        ("{|\n| never closed\nprose goes on", "prose goes on"),
        ("<table><tr><td><table>x</table></td></tr></table>After.", "After."),
        ("[[bus]]es, [[Bus (computing)|]] and [[Bus|the ''bus'']]", "buses, Bus and the bus"),
        ("[[File:A.jpg|thumb|A [[nested|caption]] {{x}}]]Text[[Category:B]]", "Text"),
        ("[[:Category:B]] and [[:de:C]]", "Category:B and de:C"),
        ("[[Image:A|B]][[文件:甲.jpg|缩略图]][[分类:乙]]正文", "正文"),
        ("Text.[[de:Text]]\n[[zh-min-nan:Text]]\n[[simple:Text]]", "Text."),
        ("[http://a.b/c?d the site] and [http://a.b] and [[http://x]]", "the site and and http://x"),
        ('a<ref name=x/>b<ref>c {{cite|d}}</ref>e<ref name="f">g</ref>.', "abe."),
        ("a <ref>never closed, b <ref>c</ref> d", "a d"),
        ("x <math>a < b</math> y<!-- hidden\n== no == -->z", "x yz"),
        ("<nowiki>[[not a link]] {{nor}} &amp; this</nowiki> ''ok''", "[[not a link]] {{nor}} & this ok"),
        ("&lt;ref&gt; 5&nbsp;&times;&nbsp;3 a < b > c", "<ref> 5 × 3 a < b > c"),
        ("== Head ==\nText.\n== References ==\n{{reflist}}\nX\n=== Sub ===\nY\n== More ==\nZ", "Text.\nZ"),
        ("== 参考文献 ==\n* 甲", ""),
        ("* one\n** two\n; term : means\n----\n# three", "one\ntwo\nterm: means\nthree"),
        ("__NOTOC__Text ({{IPA|x}}; {{y}}) and (; born 1900 ) end .", "Text and (born 1900) end."),
        ("{{lang|de|Freiheit}}, {{convert|5|km|mi}}, {{nowrap|a b}}", "Freiheit, 5 km, a b"),
        ("-{zh-hans:计算机; zh-hant:電腦}-与-{A}-{{-}}-{T|zh-cn:题}-", "计算机与A"),
        ("{{{1|default}}}Text", "Text"),
        ("Line<br />break and<p>new", "Line break and\nnew"),
        ("", ""),
    ],
)
def test_markup(markup: str, expected: str) -> None:
    assert plain_text(markup) == expected


@pytest.mark.parametrize(
    "piece", ["{{", "[[", "{|\n", "<ref>", "<table>", "<nowiki>", "<!--", "[[a|", "{{{", "''", "("]
)
def test_no_page_holds_up_a_run(piece: str) -> None:
    """A hundred thousand openings: work that grew with their square would take minutes."""
    assert len(plain_text(piece * 100_000 + "end")) < 2_000_000
