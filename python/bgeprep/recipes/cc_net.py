"""CCNet: pages of Common Crawl in one language, sorted by how much they read like Wikipedia."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from bgeprep.recipes import Purpose, Recipe
from bgeprep.recipes.html_text import tidy_text
from bgeprep.recipes.json_lines import objects, text_fields
from bgeprep.recipes.lines import place
from bgeprep.recipes.passages import OPTION, first_passage
from bgeprep.recipes.stream import Stream, Tally, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgeprep.recipes.raw import Raw, RawFile
    from bgeprep.recipes.stream import PairRow

__all__ = ["RECIPE", "page_text", "page_title"]

_FILE = re.compile(r"(?:^|/)([a-z]{2,3})_(head|middle|tail)_\d{4}\.json", re.IGNORECASE)
_SITE = re.compile(r"\s+(?:[|»·]|::|[-–—])\s+([^|»·]+)$")
_NAVIGATION = re.compile(
    r"(skip to (main )?content|share (this|on \w+)|click to share.*|read more|continue reading|leave a (comment|reply)"
    r"|sign (in|up)|log ?in|subscribe|advertisements?|menu|home|search|comments?|print|e-?mail|tweet|pin it|previous"
    r"|next|back to top|related (posts|articles)|all rights reserved\.?|©.*|copyright .*"
    r"|(we use|this site uses) cookies.*)",
    re.IGNORECASE,
)


def read(raw: Raw) -> dict[str, Stream]:
    """A source a language: `cc-net-en` for files `en_head_0000.json.gz`."""
    files = raw.matching(_FILE.pattern, expected="en_head_0000.json.gz and the like")
    most = raw.number("passage_chars", 2000)
    by_language: dict[str, list[RawFile]] = {}
    for file in files:
        found = _FILE.search(file.origin)
        by_language.setdefault(raw.options.get("language") or (found[1].lower() if found else ""), []).append(file)
    return {
        f"cc-net-{language}".rstrip("-"): pairs(partial(_rows, some, most), Purpose("retrieval", language))
        for language, some in by_language.items()
    }


def _rows(files: list[RawFile], most: int, tally: Tally) -> Iterator[PairRow]:
    for file in files:
        for number, value in objects(file, tally):
            if not (found := text_fields(value, ["title", "raw_content"], tally, place(file, number))):
                continue
            title = page_title(found[0], str(value.get("source_domain", "")))
            text = first_passage(page_text(found[1], (tidy_text(found[0]), title)), most)
            if title and text:
                yield title, [text], [], file.origin, number
            else:
                tally.pass_over("no_text_left", f"{place(file, number)}: {found[0]}")


def page_title(title: str, domain: str) -> str:
    """A title without the name of its site, if that is what stands behind the last bar or dash."""
    title = tidy_text(title)
    found = _SITE.search(title)
    if not found:
        return title
    site = re.sub(r"[\W_]+", "", found[1]).casefold()
    parts = domain.casefold().split(".")
    names = {part.replace("-", "") for part in (*parts, "".join(parts), "".join(parts[-2:]))}
    return title[: found.start()] if site in names else title


def page_text(text: str, titles: tuple[str, ...]) -> str:
    """The paragraphs of a page without its title in front and without lines that are buttons or notices."""
    lines = tidy_text(text).split("\n")
    while lines and lines[0] in titles:
        lines = lines[1:]
    return "\n".join(line for line in lines if not _NAVIGATION.fullmatch(line.rstrip(" :.…»>")))


RECIPE = Recipe(
    name="cc-net",
    kind="pairs",
    stages=("stage 1",),
    languages=(),
    about="CCNet: title → passage of web pages, in any language",
    where="made with https://github.com/facebookresearch/cc_net from Common Crawl: "
    "<language>_{head,middle,tail}_NNNN.json.gz; head reads most like Wikipedia",
    licence="terms of use of Common Crawl; the program is MIT",
    raw='JSON lines, gzip: {"url","date_download","digest","length","nlines","source_domain","title","raw_content",'
    '"original_nlines","original_length","language","language_score","perplexity"}; a line of raw_content is a '
    "paragraph",
    makes="one pair a page: title → its first paragraphs; a source a language: cc-net-en. The title loses the name of "
    "the site behind it; the text loses the title in front, and lines that are buttons or notices. Passed over: "
    "missing_field, no_text, empty_text, no_text_left, no_json, wrong_encoding",
    citation="Wenzek et al. 2020, CCNet: Extracting High Quality Monolingual Datasets from Web Crawl Data, LREC",
    unchecked="which buckets BGE took, and how long its passages were",
    options={
        "passage_chars": f"{OPTION} (2000)",
        "language": "language tag of the texts (from the names of the files)",
    },
    read=read,
)
