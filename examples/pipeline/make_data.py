"""Makes `examples/pipeline/data` from the published originals; the result is in the repository.

BGE_DATA=/folder/of/originals python examples/pipeline/make_data.py

1. Textbooks (OpenStax, CC BY 3.0): prose paragraphs with the heading they stand under. They are read twice: as texts
   for pre-training, and as (heading, paragraph), the weak pairs of stage 1.
2. Chinese news (CRUD-RAG, Apache-2.0): an article's first sentence and what follows it, read twice in the same way.
3. Chinese laws (in the public domain): articles, for pre-training alone.
4. Labelled Chinese pairs: questions of CMRC 2018's trial file (CC BY-SA 4.0), keywords of CSL abstracts (Apache-2.0).
   The labelled English pairs are the demo's.
5. Two collections of another kind than the labelled pairs: questions on new Wikipedia paragraphs (SQuADShifts, CC BY
   4.0), and CMRC 2018's development file; `QUERIES` questions each, drawn by a hash.

Pages, articles and questions are drawn by hashes, so the same originals give the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import os
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

QUERIES = 1_000
PARAGRAPH_CHARACTERS = (200, 900)
NEWS_CHARACTERS = 320
LAW_CHARACTERS = (40, 320)
# of a book, how many pages in 100
BOOKS = {
    "anatomy": 70,
    "biology-concepts": 70,
    "biology": 25,
    "chemistry": 15,
    "economics": 30,
    "sociology": 30,
    "statistics": 10,
    "us-history": 30,
}
NEWS_FILES = ("documents_dup_part_1_part_1", "documents_dup_part_3_part_2", "documents_dup_part_5_part_3")
NEWS_IN_100 = 85
LAWS_IN_100 = 8


def draw(name: str) -> int:
    """A number from 0 to 99 that the name decides."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 100


def textbook_rows(originals: Path) -> Iterator[dict[str, str]]:
    """Paragraphs of the pages drawn, under `page: section`."""
    for book, share in BOOKS.items():
        with tarfile.open(originals / "openstax" / f"{book}-book.tar.gz") as members:
            for member in sorted(members.getmembers(), key=lambda member: member.name):
                stream = members.extractfile(member) if member.name.endswith(".md") else None
                if stream is not None and draw(member.name) < share:
                    yield from paragraphs(stream.read().decode())


def paragraphs(page: str) -> Iterator[dict[str, str]]:
    """The prose of a page of Markdown."""
    named = re.search(r'^title: "?(.*?)"?$', page, re.MULTILINE)
    title = html.unescape(named.group(1)) if named else ""
    section = ""
    # what stands in HTML blocks is tables, exercises and lists of aims
    body = re.sub(r"<(div|table|figure)\b.*?</\1>", "\n\n", page.partition("\n---\n")[2], flags=re.DOTALL)
    for block in re.split(r"\n\s*\n", body):
        text = block.strip()
        if text.startswith("#"):
            section = plain(text.lstrip("# "))
        elif not re.match(r"[<!*|{$\d-]", text) and "<math" not in text:
            text = cut(plain(text), *PARAGRAPH_CHARACTERS)
            if text and title:
                yield {"title": f"{title}: {section}" if section else title, "text": text}


def plain(text: str) -> str:
    """Markdown as it is read aloud."""
    text = re.sub(r"\{:[^}]*\}", "", text)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[\\?\[?(?:link\\\]|([^\]]*))\]\([^)]*\)", lambda found: found.group(1) or "", text)
    text = re.sub(r"</?\w[^>]*>", "", text)
    text = re.sub(r"\(see\s*\)|\(\s*\)", "", html.unescape(text))
    return " ".join(re.sub(r"[*\\]|(?<!\w)_|_(?!\w)", "", text).split())


def cut(text: str, least: int, most: int) -> str:
    """The text up to the last sentence that ends within `most` characters; empty where it is shorter than `least`."""
    if len(text) > most:
        ends = [found.end() for found in re.finditer(r"[.!?。！？](?=\s|$|[^\s])", text[:most])]
        text = text[: ends[-1]] if ends else ""
    return text if len(text) >= least else ""


def news_rows(originals: Path) -> Iterator[dict[str, str]]:
    """The first sentence of an article as title, what follows as text."""
    for name in NEWS_FILES:
        lines = gzip.decompress((originals / "crud-news-zh" / f"{name}.gz").read_bytes()).decode().splitlines()
        for line in lines:
            if draw(line[:200]) >= NEWS_IN_100:
                continue
            body = line.partition("正文：")[2]
            body = re.sub(r"^.{0,30}?[电讯]\s*[（(][^）)]*[）)]", "", body).strip()
            first, end, rest = body.partition("。")
            rest = cut(rest.strip(), 60, NEWS_CHARACTERS)
            if end and 8 <= len(first) <= 80 and rest:
                yield {"title": first, "text": rest}


def law_rows(originals: Path) -> Iterator[dict[str, str]]:
    """Articles of laws, under the name of the law."""
    with tarfile.open(originals / "laws-zh" / "laws-md.tar.gz") as members:
        for member in sorted(members.getmembers(), key=lambda member: member.name):
            stream = members.extractfile(member) if member.name.endswith(".md") else None
            if stream is None or draw(member.name) >= LAWS_IN_100:
                continue
            head, _, body = stream.read().decode().partition("<!-- INFO END -->")
            name = head.strip().splitlines()[0].lstrip("# ") if head.strip() else ""
            for block in re.split(r"\n\s*\n", body):
                text = cut(" ".join(block.split()), *LAW_CHARACTERS)
                if name and re.match("第[一二三四五六七八九十百]+条", text):
                    yield {"title": name, "text": text}


def squad(path: Path) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Id, paragraph and (id, question) of a file in SQuAD's form."""
    for article in json.loads(gzip.decompress(path.read_bytes()))["data"]:
        for paragraph in article["paragraphs"]:
            asked = [(str(entry["id"]), " ".join(entry["question"].split())) for entry in paragraph["qas"]]
            yield str(asked[0][0]), " ".join(paragraph["context"].split()), asked


def labelled_rows(originals: Path) -> dict[str, Iterator[dict[str, str]]]:
    """File name → labelled Chinese pairs."""
    trial = originals / "cmrc2018" / "squad-style-data" / "cmrc2018_trial.json.gz"
    keywords = gzip.decompress((originals / "csl" / "kg" / "dev.tsv.gz").read_bytes()).decode().splitlines()
    split = (line.split("\t") for line in keywords)
    return {
        "cmrc-trial": ({"query": text, "pos": context} for _, context, asked in squad(trial) for _, text in asked),
        "csl-keywords": ({"query": words.replace("_", " "), "pos": abstract} for _, abstract, words in split),
    }


def write_collection(folder: Path, original: Path) -> None:
    """All paragraphs, and the questions that a hash draws, each with its own paragraph as the one relevant."""
    documents, queries = [], []
    for number, (_, context, asked) in enumerate(squad(original)):
        documents.append({"_id": f"p{number}", "title": "", "text": context})
        queries += [(name, text, f"p{number}") for name, text in asked]
    kept = sorted(queries, key=lambda query: hashlib.sha256(query[0].encode()).digest())[:QUERIES]
    write_lines(folder / "corpus.jsonl.gz", documents)
    write_lines(folder / "queries.jsonl.gz", ({"_id": name, "text": text} for name, text, _ in kept))
    (folder / "qrels").mkdir(exist_ok=True)
    lines = "".join(f"{name}\t{document}\t1\n" for name, _, document in kept)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + lines, encoding="utf-8")


def write_lines(path: Path, rows: Iterable[object]) -> None:
    """JSON lines, gzipped without a time stamp."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    sizes = [size / 1e6 for size in (len(text.encode()), path.stat().st_size)]
    print(f"{path}: {text.count(chr(10)):,} rows, {sizes[0]:.1f} MB, {sizes[1]:.2f} MB packed")


def main() -> int:
    """Writes everything."""
    originals = Path(os.environ.get("BGE_DATA", "data"))
    if not (originals / "openstax").is_dir():
        print(f"{originals / 'openstax'} not found\nhint: set BGE_DATA to the folder of the originals", file=sys.stderr)
        return 1
    out = Path(__file__).parent / "data"
    write_lines(out / "en" / "texts" / "textbooks.jsonl.gz", textbook_rows(originals))
    write_lines(out / "zh" / "texts" / "news.jsonl.gz", news_rows(originals))
    write_lines(out / "zh" / "texts" / "laws.jsonl.gz", law_rows(originals))
    for name, rows in labelled_rows(originals).items():
        write_lines(out / "zh" / "pairs" / f"{name}.jsonl.gz", rows)
    write_collection(out / "en" / "wiki-questions", originals / "squadshifts" / "new_wiki_v1.0.json.gz")
    write_collection(out / "zh" / "cmrc-dev", originals / "cmrc2018" / "squad-style-data" / "cmrc2018_dev.json.gz")
    return 0


if __name__ == "__main__":
    sys.exit(main())
