"""Reads a retrieval collection in the BEIR layout.

```
DIR/corpus.jsonl[.gz]      {"_id": "d1", "title": "…", "text": "…"}      title optional
DIR/queries.jsonl[.gz]     {"_id": "q1", "text": "…"}
DIR/qrels/<split>.tsv      q1 <tab> d1 <tab> 2      (a header line `query-id corpus-id score` or none)
                           q1 <tab> 0 <tab> d1 <tab> 2   (trec_eval's four columns, also separated by spaces)
```

The corpus is read twice and never held: first its ids, which show duplicates and judgements of absent
documents before anything is computed, then its texts, in the order of the file, piece by piece.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bgetrain.errors import BgetrainError

__all__ = [
    "Collection",
    "CollectionError",
    "Qrels",
    "find_collections",
    "open_collection",
    "read_lines",
    "read_qrels",
    "read_queries",
]

Qrels = dict[str, dict[str, int]]
"""query id → document id → grade."""

_NAMED = 5
"""How many missing ids a message names."""


class CollectionError(BgetrainError, ValueError):
    """A collection that is absent, incomplete or badly formed; the message names file and line."""


@dataclass(frozen=True)
class Collection:
    """One split of a collection; texts of documents stay on disk.

    Attributes:
        name: the folder's name.
        folder: where it lies.
        split: the name of the judgement file.
        document_ids: ids in the order of the corpus.
        queries: id → text, the judged queries alone, in the order of the file.
        qrels: judgements; queries whose text is missing are left out.
        missing_queries: judged queries that are not in queries.jsonl, sorted.
        missing_documents: judged documents that are not in the corpus, sorted; their judgements stay, as
            trec_eval keeps them: a relevant document that cannot be found lowers the score.
        unjudged_queries: number of queries without a judgement in this split; they are not searched.
    """

    name: str
    folder: Path
    split: str
    document_ids: list[str]
    queries: dict[str, str]
    qrels: Qrels
    missing_queries: list[str]
    missing_documents: list[str]
    unjudged_queries: int

    @property
    def judgements(self) -> int:
        """The number of judgements of the queries that are searched."""
        return sum(len(grades) for grades in self.qrels.values())

    def documents(self, size: int) -> Iterator[list[str]]:
        """Yields the texts, title before text with a space between, in lists of at most `size`.

        Raises:
            CollectionError: the file changed since its ids were read.
        """
        piece: list[str] = []
        count = 0
        path = _data_file(self.folder, "corpus")
        for count, (line, row) in enumerate(_rows(path), start=1):
            if count > len(self.document_ids) or row["_id"] != self.document_ids[count - 1]:
                raise CollectionError(f"{path}:{line}: the file changed while it was read", path=str(path))
            piece.append(f"{_text(path, line, row, 'title', '')} {_text(path, line, row, 'text')}".strip())
            if len(piece) == size:
                yield piece
                piece = []
        if count != len(self.document_ids):
            raise CollectionError(f"{path}: the file changed while it was read", path=str(path))
        if piece:
            yield piece

    def warnings(self) -> list[str]:
        """What a reader of the scores has to know, a line each."""
        lines = []
        for what, ids in (("queries", self.missing_queries), ("documents", self.missing_documents)):
            if ids:
                effect = "not searched" if what == "queries" else "counted as not found"
                lines.append(f"{self.name}: {len(ids)} judged {what} are missing and {effect}: {_some(ids)}")
        hopeless = [query for query, grades in self.qrels.items() if max(grades.values()) <= 0]
        if hopeless:
            lines.append(
                f"{self.name}: {len(hopeless)} queries have no relevant document and score 0: {_some(hopeless)}"
            )
        return lines


def find_collections(folder: str | Path) -> list[Path]:
    """Returns `folder` where it is a collection, else the collections right below it, sorted by name.

    Raises:
        CollectionError: there is none.
    """
    root = Path(folder)
    if not root.is_dir():
        raise CollectionError(
            f"{root}: no such folder", path=str(root), hint="--data takes a folder in the BEIR layout"
        )
    if _has(root, "corpus"):
        return [root]
    below = sorted(path for path in root.iterdir() if path.is_dir() and _has(path, "corpus"))
    if not below:
        message = f"{root}: no collection: expected corpus.jsonl, queries.jsonl and qrels/<split>.tsv"
        raise CollectionError(message, path=str(root))
    return below


def open_collection(folder: str | Path, split: str = "test") -> Collection:
    """Reads ids, queries and judgements, and checks that they fit each other.

    Args:
        folder: the collection's folder.
        split: which file of `qrels/` to take.

    Returns:
        The collection; documents are read when asked for.

    Raises:
        CollectionError: a file is absent or badly formed, an id stands twice, or nothing is left to search.
    """
    root = Path(folder)
    qrels_path = root / "qrels" / f"{split}.tsv"
    if not qrels_path.is_file():
        there = ", ".join(sorted(path.stem for path in qrels_path.parent.glob("*.tsv"))) or "none"
        message = f"{qrels_path}: no such file (splits found: {there})"
        raise CollectionError(message, path=str(qrels_path), hint="--split names the judgements to use")
    qrels = read_qrels(qrels_path)
    queries = read_queries(root)
    corpus_path = _data_file(root, "corpus")
    ids: dict[str, None] = {}
    for line, row in _rows(corpus_path):
        if row["_id"] in ids:
            raise CollectionError(f"{corpus_path}:{line}: id {row['_id']!r} stands twice", path=str(corpus_path))
        ids[str(row["_id"])] = None
    if not ids:
        raise CollectionError(f"{corpus_path}: no documents", path=str(corpus_path))
    searched = {query: grades for query, grades in qrels.items() if query in queries}
    if not searched:
        name = _data_file(root, "queries").name
        message = f"{qrels_path}: none of its {len(qrels)} queries is in {name} ({_some(sorted(qrels))})"
        raise CollectionError(message, path=str(qrels_path))
    return Collection(
        name=root.resolve().name,
        folder=root,
        split=split,
        document_ids=list(ids),
        queries={query: text for query, text in queries.items() if query in searched},
        qrels=searched,
        missing_queries=sorted(set(qrels) - set(queries)),
        missing_documents=sorted({doc for grades in searched.values() for doc in grades if doc not in ids}),
        unjudged_queries=len(queries) - len(searched),
    )


def read_queries(folder: str | Path) -> dict[str, str]:
    """All queries of a collection, judged or not: id → text, in the order of the file.

    Raises:
        CollectionError: the file is absent or badly formed, or an id stands twice.
    """
    path = _data_file(Path(folder), "queries")
    queries: dict[str, str] = {}
    for line, row in _rows(path):
        if row["_id"] in queries:
            raise CollectionError(f"{path}:{line}: id {row['_id']!r} stands twice", path=str(path))
        queries[str(row["_id"])] = _text(path, line, row, "text")
    return queries


def read_qrels(path: Path) -> Qrels:
    """Judgements of three or four columns; a judgement given twice must have one grade.

    Raises:
        CollectionError: a line is badly formed, or there is none.
    """
    qrels: Qrels = {}
    for line, text in read_lines(path):
        if not text.strip():
            continue
        # Tabs where there are any: an id may hold spaces. trec_eval's own files use spaces.
        fields = text.rstrip("\r\n").split("\t") if "\t" in text else text.split()
        if line == 1 and fields[-1].strip().lower() in {"score", "relevance", "rel", "grade", "label"}:
            continue
        if len(fields) not in (3, 4):
            message = f"{path}:{line}: expected 3 columns (query, document, grade) or 4, found {len(fields)}"
            raise CollectionError(message, path=str(path))
        query, document, grade = fields[0].strip(), fields[-2].strip(), fields[-1].strip()
        try:
            # Some collections write 1.0; a broken grade has no meaning to any of the metrics.
            value = int(grade) if grade.lstrip("+-").isdigit() else _whole(float(grade))
        except ValueError:
            message = f"{path}:{line}: expected a whole number as grade, found {grade!r}"
            raise CollectionError(message, path=str(path)) from None
        if qrels.setdefault(query, {}).setdefault(document, value) != value:
            message = f"{path}:{line}: {query} {document} has grade {value} here and {qrels[query][document]} before"
            raise CollectionError(message, path=str(path))
    if not qrels:
        raise CollectionError(f"{path}: no judgements", path=str(path))
    return qrels


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError
    return int(value)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """The JSON objects of a file with their line numbers; ids come back as text."""
    for line, text in read_lines(path):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise CollectionError(f"{path}:{line}: not valid JSON: {error}", path=str(path)) from error
        name = row.get("_id", row.get("id")) if isinstance(row, dict) else None
        if not isinstance(name, str | int) or name == "":
            raise CollectionError(f"{path}:{line}: expected an object with _id", path=str(path))
        row["_id"] = str(name)
        yield line, row


def _text(path: Path, line: int, row: dict[str, object], key: str, absent: str | None = None) -> str:
    value = row.get(key, absent)
    if value is None and absent is not None:
        return absent
    if not isinstance(value, str):
        found = "nothing" if value is None else type(value).__name__
        raise CollectionError(f"{path}:{line}: expected text under {key!r}, found {found}", path=str(path))
    return value


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file, plain or gzipped, with their numbers from 1.

    Raises:
        CollectionError: what is not UTF-8, or a gzip file that is broken.
    """
    line = 0
    try:
        with path.open("rb") as head:
            zipped = head.read(2) == b"\x1f\x8b"
        # The -sig form skips a byte order mark.
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline="\n")
            if zipped
            else path.open(encoding="utf-8-sig", newline="\n")
        ) as lines:
            for line, text in enumerate(lines, start=1):
                yield line, text
    except UnicodeDecodeError as error:
        raise CollectionError(f"{path}: not valid UTF-8 after line {line}: {error}", path=str(path)) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CollectionError(f"{path}: broken gzip file after line {line}: {error}", path=str(path)) from error


def _has(folder: Path, stem: str) -> bool:
    return any((folder / f"{stem}.jsonl{suffix}").is_file() for suffix in ("", ".gz"))


def _data_file(folder: Path, stem: str) -> Path:
    for suffix in ("", ".gz"):
        path = folder / f"{stem}.jsonl{suffix}"
        if path.is_file():
            return path
    path = folder / f"{stem}.jsonl"
    raise CollectionError(f"{path}: no such file, and no {path.name}.gz either", path=str(path))


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:_NAMED]) + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")
