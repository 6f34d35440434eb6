"""Wiki markup → plain text: what a reader of the page sees as running text, and nothing else.

1. Comments, and elements whose content is no running text (`ref`, `math`, `gallery` …), go; `nowiki` is put aside.
2. One pass over the brackets with a stack: templates, tables, files, categories and language links go, a link leaves
   its label. What is never closed loses its brackets and nothing more.
3. Line by line: headings go, and with them the sections that hold references and links; list marks go.
4. Entities become characters, what was put aside comes back.

Every step looks at each character a bounded number of times, so that no page can hold up a run.
"""

from __future__ import annotations

import html
import re

__all__ = ["NO_PROSE", "plain_text"]

# elements that go with their content
_GONE = frozenset(
    [
        "ref",
        "references",
        "math",
        "chem",
        "ce",
        "gallery",
        "timeline",
        "syntaxhighlight",
        "source",
        "score",
        "imagemap",
        "templatedata",
        "graph",
        "hiero",
        "mapframe",
        "maplink",
        "inputbox",
        "categorytree",
        "pre",
        "style",
        "script",
        "indicator",
        "table",
    ]
)
_LINE_ENDS = frozenset(
    [
        "p",
        "div",
        "blockquote",
        "center",
        "li",
        "ul",
        "ol",
        "dl",
        "dt",
        "dd",
        "tr",
        "poem",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
    ]
)
_KEPT = frozenset(
    [
        "nowiki",
        "br",
        "span",
        "small",
        "big",
        "sup",
        "sub",
        "b",
        "i",
        "u",
        "s",
        "em",
        "strong",
        "del",
        "ins",
        "strike",
        "code",
        "tt",
        "kbd",
        "samp",
        "var",
        "font",
        "cite",
        "q",
        "abbr",
        "dfn",
        "bdi",
        "bdo",
        "ruby",
        "rb",
        "rt",
        "rp",
        "mark",
        "wbr",
        "time",
        "data",
        "onlyinclude",
        "includeonly",
        "noinclude",
        "section",
        "td",
        "th",
        "caption",
        "thead",
        "tbody",
        "tfoot",
        "translate",
        "tvar",
        "languages",
    ]
)
_TAG = re.compile(rf"<!--|<(/?)({'|'.join(sorted(_GONE | _LINE_ENDS | _KEPT))})\b([^<>]*)>", re.IGNORECASE)

_BRACKET = re.compile(r"\{\{|\}\}|\[\[|\]\]|^[ \t:]*\{\||^[ \t]*\|\}", re.MULTILINE)
_CLOSES = {"}}": "{{", "]]": "[[", "|}": "{|"}
_DEEPEST = 100

# templates that show running text, with the number of the argument that does
_SHOWN = {"lang": 2, "transl": 2, "nowrap": 1, "nobr": 1, "abbr": 1, "ill": 1, "interlanguage link": 1, "link-en": 1}
_MEASURES = frozenset({"convert", "cvt"})

# names that files and categories have beside those in the header of a dump
_HIDDEN = frozenset({"file", "image", "media", "category", "文件", "图像", "圖像", "檔案", "档案", "分类", "分類"})
# a language code before a colon moves a link out of the text; these are other sites
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]+)*|simple|be-x-old")
_OTHER_SITES = frozenset({"doi", "rfc", "mw", "wp", "irc", "wmf", "tv"})

_PARAMETER = re.compile(r"\{\{\{[^{}]*\}\}\}")
_VARIANT = re.compile(r"-\{(?!\{)([^{}]*)\}-")
_EXTERNAL = re.compile(r"\[(?:https?:|ftp:)?//[^\s\[\]<>]*([^\[\]\n]*)\]", re.IGNORECASE)
_QUOTES = re.compile(r"'{2,}")
_SWITCH = re.compile(r"__[A-Z\u4e00-\u9fff]{2,}__")
_HEADING = re.compile(r"(={1,6})(.+?)\1$")
_LIST_MARK = re.compile(r"[*#:;]+\s*")
_EMPTY_BRACKETS = re.compile(r"[ \t]?(?:\([\s,;:、，；]*\)|（[\s,;:、，；]*）)")
_BRACKET_START = re.compile(r"([(（])(?:[\s,;:、，；]*[,;:、，；])\s*")
_SPACES = re.compile(r"[ \t\u00a0]+")
_SPACE_BEFORE = re.compile(r" (?=[,.;:!?)](?:\s|$))")

# sections that are lists of references and links, in English and Chinese
NO_PROSE = frozenset(
    {
        *("references", "external links", "see also", "further reading", "notes", "notes and references", "footnotes"),
        *("bibliography", "sources", "citations", "works cited", "references and notes", "external link", "gallery"),
        *(
            "参考文献",
            "參考文獻",
            "参考资料",
            "參考資料",
            "外部链接",
            "外部連結",
            "外部链结",
            "外部鏈接",
            "参见",
            "參見",
        ),
        *(
            "注释",
            "註釋",
            "注釋",
            "脚注",
            "腳註",
            "备注",
            "備註",
            "来源",
            "來源",
            "参考",
            "參考",
            "延伸阅读",
            "延伸閱讀",
        ),
        *("相关条目", "相關條目", "参看", "參看", "扩展阅读", "擴展閱讀", "相关链接", "相關連結"),
    }
)


def plain_text(markup: str, *, hidden_namespaces: frozenset[str] = frozenset(), headings: bool = False) -> str:
    """The running text of a page.

    Args:
        markup: wiki markup, as it stands in a dump once the XML is taken off.
        hidden_namespaces: names of the namespaces of files and categories in the wiki's language; the English and
            Chinese ones are known.
        headings: headings stay, as lines `== heading ==` whatever their level.

    Returns:
        One line a paragraph or list item, no blank lines; empty if nothing is left.
    """
    aside: list[str] = []
    text = _without_elements(markup.replace("\x01", ""), aside)
    text = _VARIANT.sub(lambda found: _variant(found[1]), _PARAMETER.sub("", text))
    text = _without_brackets(text, _HIDDEN | {name.casefold() for name in hidden_namespaces})
    text = _EXTERNAL.sub(lambda found: found[1].strip(), text)
    text = _SWITCH.sub("", _QUOTES.sub("", text))
    lines = (_tidy(html.unescape(line)) for line in _prose(text.split("\n"), headings))
    text = "\n".join(line for line in lines if any(map(str.isalnum, line)) or "\x01" in line)
    return re.sub("\x01(\\d+)\x01", lambda found: html.unescape(aside[int(found[1])]), text)


def _without_elements(text: str, aside: list[str]) -> str:
    """Takes out comments and elements; the content of `nowiki` goes to `aside`, its number stays."""
    kept: list[str] = []
    at = 0
    unclosed: set[str] = set()
    while found := _TAG.search(text, at):
        kept.append(text[at : found.start()])
        at = found.end()
        if found[0] == "<!--":
            end = text.find("-->", at)
            at = end + 3 if end >= 0 else len(text)
            continue
        closing, name, attributes = found[1], found[2].lower(), found[3]
        if name in _LINE_ENDS:
            kept.append("\n")
        elif name == "br":
            kept.append(" ")
        if closing or attributes.endswith("/") or name in unclosed or not (name in _GONE or name == "nowiki"):
            continue
        end_of_content, end = _closing(text, name, at)
        if end < 0:
            # a tag that nothing closes takes nothing along; its like are not searched for again
            unclosed.add(name)
            continue
        if name == "nowiki":
            aside.append(text[at:end_of_content])
            kept.append(f"\x01{len(aside) - 1}\x01")
        at = end
    kept.append(text[at:])
    return "".join(kept)


def _closing(text: str, name: str, at: int) -> tuple[int, int]:
    """Where the content of an element ends, and where its closing tag does; -1 if nowhere. Only tables nest."""
    depth = 1
    for found in re.compile(rf"<(/?){name}\b[^<>]*>", re.IGNORECASE).finditer(text, at):
        if found[1]:
            depth -= 1
        elif name == "table":
            depth += 1
        if not depth:
            return found.start(), found.end()
    return -1, -1


def _variant(rule: str) -> str:
    """`-{zh-hans:甲; zh-hant:乙}-` → 甲: what a reader of the simplified script sees."""
    flags, bar, rest = rule.partition("|")
    if bar:
        if set(flags.upper()) & set("THD-"):
            return ""
        rule = rest
    choices = [choice.partition(":") for choice in rule.split(";") if ":" in choice]
    if not choices or not all(code.strip().startswith("zh") for code, _, _ in choices):
        return rule
    by_code = {code.strip(): shown.strip() for code, _, shown in choices}
    return next((by_code[code] for code in ("zh-hans", "zh-cn", "zh") if code in by_code), choices[0][2].strip())


def _without_brackets(text: str, hidden: frozenset[str]) -> str:
    """Resolves templates, tables and links, innermost first."""
    opened: list[tuple[str, list[str]]] = [("", [])]
    at = start = 0
    while found := _BRACKET.search(text, start):
        token = found[0].lstrip(" \t:")
        place = found.end() - len(token)
        start = found.end()
        if token in ("{{", "[[", "{|"):
            opened[-1][1].append(text[at:place])
            at = start
            if len(opened) < _DEEPEST:
                opened.append((token, []))
            continue
        if token == "|}" and opened[-1][0] == "{{" and text[start : start + 1] == "}":
            # the last argument of a template is empty: `|` and `}}`
            start = found.end() - 1
            continue
        wanted = _CLOSES[token]
        # a link ends where it began: it closes nothing that a template or a table left open
        depth = len(opened) - 1
        if token != "]]":
            depth = next((level for level in range(depth, 0, -1) if opened[level][0] == wanted), 0)
        if opened[depth][0] != wanted or not depth:
            if token != "|}":
                opened[-1][1].append(text[at:place])
                at = start
            continue
        opened[-1][1].append(text[at:place])
        at = start
        content = "".join(_pieces(opened[depth:]))
        del opened[depth:]
        opened[-1][1].append(_shown(wanted, content, hidden))
    opened[-1][1].append(text[at:])
    return "".join(_pieces(opened))


def _pieces(levels: list[tuple[str, list[str]]]) -> list[str]:
    """The pieces of some levels, outermost first."""
    return [piece for _, pieces in levels for piece in pieces]


def _shown(bracket: str, content: str, hidden: frozenset[str]) -> str:
    """What a reader sees of a template, a table or a link."""
    if bracket == "{|":
        return "\n"
    if bracket == "{{":
        return _template(content)
    target, bar, label = content.partition("|")
    name, colon, _ = target.partition(":")
    if colon and name:
        name = name.strip()
        if name.casefold() in hidden:
            return ""
        if not bar and _LANGUAGE.fullmatch(name) and name not in _OTHER_SITES:
            return ""
    target = target.strip().removeprefix(":")
    return label if label.strip() else re.sub(r" ?\([^()]*\)$", "", target) if bar else target


def _template(content: str) -> str:
    name, *arguments = (part.strip() for part in content.split("|"))
    name = name.casefold()
    plain = [one for one in arguments if "=" not in one]
    if name in _MEASURES:
        return " ".join(plain[:2])
    number = 1 if name.startswith("lang-") else _SHOWN.get(name, 0)
    return plain[number - 1] if 0 < number <= len(plain) else ""


def _prose(lines: list[str], headings: bool) -> list[str]:
    """The lines of running text, without headings, list marks and sections that hold none."""
    kept = []
    skipped = 0
    for line in map(str.strip, lines):
        if found := _HEADING.match(line):
            level, title = len(found[1]), found[2].strip().casefold()
            if not skipped or level <= skipped:
                skipped = level if title in NO_PROSE else 0
                if headings and not skipped:
                    kept.append(f"== {found[2].strip()} ==")
        elif line and not skipped and line[0] not in "|!" and not line.startswith("----"):
            mark = _LIST_MARK.match(line)
            kept.append(line[mark.end() :] if mark else line)
    return kept


def _tidy(line: str) -> str:
    """Takes away what templates that are gone leave behind: empty brackets, double spaces, lonely commas."""
    line = _BRACKET_START.sub(r"\1", _EMPTY_BRACKETS.sub("", line))
    return _SPACE_BEFORE.sub("", _SPACES.sub(" ", line)).strip()
