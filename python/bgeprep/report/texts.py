"""The sections that show texts of the set: pairs side by side with their differences, and examples."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from bgeprep.report.markup import Child, Markup, count, join, tag
from bgeprep.report.reasons import look_up
from bgeprep.report.samples import CHARACTERS, spans

__all__ = ["benchmark_hits", "differences", "pairs", "samples"]


def differences(left: str, right: str) -> tuple[Markup, Markup]:
    """Two texts with the words that differ marked; white space between words is never a difference.

    What differs at the end of a text that was cut is only where it was cut, and stays unmarked.
    """
    words, others = spans(left), spans(right)
    matcher = difflib.SequenceMatcher(
        None, [left[a:b].casefold() for a, b in words], [right[a:b].casefold() for a, b in others], autojunk=False
    )
    marked: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    cut = max(len(left), len(right)) >= CHARACTERS
    for what, a, b, c, d in matcher.get_opcodes():
        at_the_end = b == len(words) and d == len(others)
        if what != "equal" and not (cut and at_the_end):
            if b > a:
                marked[0].append((words[a][0], words[b - 1][1]))
            if d > c:
                marked[1].append((others[c][0], others[d - 1][1]))
    return _marked(left, marked[0]), _marked(right, marked[1])


def _marked(text: str, places: list[tuple[int, int]]) -> Markup:
    pieces: list[Child] = []
    end = 0
    for first, last in places:
        pieces += [text[end:first], tag("mark", text[first:last])]
        end = last
    return join(*pieces, _ended(text[end:], text))


def _ended(rest: str, text: str) -> str:
    """The rest of a text, with an ellipsis where the text was cut."""
    return f"{rest}…" if len(text) >= CHARACTERS else rest


def pairs(figures: dict[str, Any]) -> Markup | None:
    """Dropped rows on the left, what stays on the right."""
    shown = figures["samples"]["pairs"]
    if not shown:
        return None
    intro = tag(
        "p",
        "A sample of the rows that went because a copy stays: on the left what was dropped, on the right what is in "
        "the set. Words that differ are ",
        tag("mark", "marked"),
        f"; texts are cut to {count(CHARACTERS)} characters. Near duplicates come first, the least alike on top.",
        class_="intro",
    )
    shown_as = _manner(figures)
    return join(intro, [_pair(pair, shown_as) for pair in shown])


def _pair(pair: dict[str, Any], shown_as: _Manner) -> Markup:
    stays = pair["stays"]
    role = {"row": "passage", "positive": "positive", "negative": "negative"}[pair["part"]]
    beside = "positive" if role == "negative" else role
    query: Child = pair["query"]
    text: Child = pair["text"]
    if stays is None:
        other: Child = tag("p", "The row in its place is not in this set.", class_="faint")
    else:
        query, stays_query = differences(pair["query"], stays["query"])
        text, stays_text = differences(pair["text"], stays["text"])
        other = _side("stays", stays, [("query", stays_query), (beside, stays_text)], shown_as)
    # Of exact copies it is 1 by definition, and says nothing.
    similarity = pair["similarity"] if look_up(pair["reason"]).family == "near" else None
    head = tag(
        "div",
        _chip(pair["reason"]),
        tag("span", f"similarity {similarity:.3f}", class_="similarity") if similarity is not None else None,
        tag("span", pair["detail"], class_="faint") if pair["detail"] else None,
        class_="pair-head",
    )
    dropped = _side("dropped", pair, [("query", query), (role, text)], shown_as)
    return tag("article", head, tag("div", dropped, other, class_="sides"), class_="pair")


def _side(name: str, row: dict[str, Any], texts: list[tuple[str, Child]], shown_as: _Manner) -> Markup:
    return tag(
        "div",
        tag("p", tag("b", name), " ", _origin(row), class_="side-name"),
        tag("dl", [[tag("dt", role), _text(text, shown_as.language(row))] for role, text in shown_as.roles(texts)]),
        class_=f"side {name}",
    )


def _text(text: Child, language: str | None) -> Markup:
    """A text in its own direction and, where the source says so, language."""
    if isinstance(text, str) and not isinstance(text, Markup):
        text = _ended(text, text) if text else tag("i", "empty", class_="faint")
    return tag("dd", text, dir="auto", lang=language or None)


def _origin(row: dict[str, Any]) -> Markup:
    return tag("span", f"{row['source']} · {row['file']}:{row['line']}", class_="origin")


def _chip(name: str) -> Markup:
    return tag("span", tag("code", name), class_=f"chip k-{look_up(name).family}")


@dataclass(frozen=True, slots=True)
class _Manner:
    """How texts of the set are shown: the language of each source, and whether rows are documents."""

    languages: dict[str, str]
    documents: bool

    def language(self, row: dict[str, Any]) -> str | None:
        return self.languages.get(row["source"])

    def roles(self, texts: list[tuple[str, Child]]) -> list[tuple[str, Child]]:
        """The texts under their names: of a document a title, where it has one, and a text."""
        if not self.documents:
            return texts
        return [("title" if role == "query" else "text", text) for role, text in texts if text or role != "query"]


def _manner(figures: dict[str, Any]) -> _Manner:
    languages = {source["name"]: source["language"] for source in figures["sources"]}
    return _Manner(languages, figures["kind"] == "text")


def samples(figures: dict[str, Any]) -> Markup | None:
    """Dropped rows by reason in one column, kept rows by source in the other."""
    shown_as = _manner(figures)
    dropped = [line for line in figures["samples"]["dropped"] if line["reason"] != "in_benchmark"]
    kept = figures["samples"]["kept"]
    left = [_dropped(line, shown_as) for line in dropped]
    right = [_kept(row, shown_as) for row in kept]
    nothing = tag("p", "No row was dropped for a reason that is not shown above.", class_="faint")
    return tag(
        "div",
        tag("div", tag("h3", "Dropped, by reason"), left or nothing),
        tag("div", tag("h3", "Kept, by source"), right),
        class_="two",
    )


def _dropped(line: dict[str, Any], shown_as: _Manner) -> Markup:
    role = {"row": "text", "positive": "positive", "negative": "negative"}[line["part"]]
    return tag(
        "article",
        tag("p", _chip(line["reason"]), " ", tag("span", line["detail"], class_="faint"), class_="pair-head"),
        _side("dropped", line, [("query", line["query"]), (role, line["text"])], shown_as),
        class_="pair",
    )


def _kept(row: dict[str, Any], shown_as: _Manner) -> Markup:
    texts: list[tuple[str, Child]] = [("query", row["query"])]
    for role, words in (("pos", "positive"), ("neg", "negative")):
        texts += [(words, text) for text in row[role]]
        if row["more"][role]:
            texts.append(("", tag("span", f"and {count(row['more'][role])} more", class_="faint")))
    return tag("article", _side("kept", row, texts, shown_as), class_="pair")


def benchmark_hits(figures: dict[str, Any]) -> Markup | None:
    """Examples of texts that a benchmark has."""
    hits = [line for line in figures["samples"]["dropped"] if line["reason"] == "in_benchmark"]
    if not hits:
        return None
    shown_as = _manner(figures)
    shown = []
    for line in hits:
        similarity = line["similarity"]
        head = tag(
            "p",
            tag("span", f"{line['twin_source']} {line['twin_id']}".strip(), class_="chip k-benchmark"),
            tag("span", f"similarity {similarity:.3f}", class_="similarity") if similarity is not None else None,
            tag("span", line["detail"], class_="faint") if line["detail"] else None,
            class_="pair-head",
        )
        side = _side("dropped", line, [("query", line["query"]), ("text", line["text"])], shown_as)
        shown.append(tag("article", head, side, class_="pair"))
    return join(tag("h3", "Examples"), tag("div", shown, class_="two"))
