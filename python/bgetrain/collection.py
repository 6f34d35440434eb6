"""Reads a retrieval collection in the BEIR layout, or in that of FlagEmbedding's custom evaluation.

```
DIR/corpus.jsonl[.gz]              {"_id": "d1", "title": "…", "text": "…"}      title optional, `id` is taken as well
DIR/queries.jsonl[.gz]             {"_id": "q1", "text": "…"}
DIR/qrels/<split>.tsv              q1 <tab> d1 <tab> 2      (a header line `query-id corpus-id score` or none)
                                   q1 <tab> 0 <tab> d1 <tab> 2   (trec_eval's four columns, also split by spaces)

DIR/<split>_queries.jsonl[.gz]     {"id": "q1", "text": "…"}                      FlagEmbedding, beside the same corpus
DIR/<split>_qrels.jsonl[.gz]       {"qid": "q1", "docid": "d1", "relevance": 2}
```

The corpus is read twice and never held: first its ids, which show duplicates and judgements of absent
documents before anything is computed, then its texts, in the order of the file, piece by piece.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bgetrain.errors import BgetrainError

__all__ = [
    "Collection",
    "CollectionError",
    "Qrels",
    "corpus_file",
    "find_collections",
    "open_collection",
    "queries_file",
    "read_lines",
    "read_objects",
    "read_qrels",
    "read_queries",
]

Qrels = dict[str, dict[str, int]]
"""query id → document id → grade."""

_NAMED = 5
"""How many missing ids a message names."""

_TEXTS_AT_ONCE = 1024


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
        path = corpus_file(self.folder)
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

    def texts_of(self, ids: Iterable[str]) -> dict[str, str]:
        """The texts of some documents, by one pass over the corpus; ids that are not in it are left out.

        Raises:
            CollectionError: the file changed since its ids were read.
        """
        wanted = set(ids)
        texts = (text for piece in self.documents(_TEXTS_AT_ONCE) for text in piece)
        return {name: text for name, text in zip(self.document_ids, texts, strict=True) if name in wanted}

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
            f"{root}: {'not a folder' if root.exists() else 'no such folder'}",
            path=str(root),
            hint="--data takes a folder in the BEIR layout, or in FlagEmbedding's",
        )
    if _has(root, "corpus"):
        return [root]
    below = sorted(path for path in root.iterdir() if path.is_dir() and _has(path, "corpus"))
    if not below:
        message = (
            f"{root}: no collection: expected corpus.jsonl, with queries.jsonl and qrels/<split>.tsv (BEIR) "
            "or <split>_queries.jsonl and <split>_qrels.jsonl (FlagEmbedding)"
        )
        raise CollectionError(message, path=str(root))
    return below


def open_collection(folder: str | Path, split: str = "test") -> Collection:
    """Reads ids, queries and judgements, and checks that they fit each other.

    Args:
        folder: the collection's folder.
        split: which judgements to take: `qrels/<split>.tsv`, or where it is absent `<split>_qrels.jsonl`.

    Returns:
        The collection; documents are read when asked for.

    Raises:
        CollectionError: a file is absent or badly formed, an id stands twice, or nothing is left to search.
    """
    root = Path(folder)
    qrels_path = root / "qrels" / f"{split}.tsv"
    if qrels_path.is_file():
        qrels = read_qrels(qrels_path)
    elif _has(root, f"{split}_qrels"):
        qrels_path = _data_file(root, f"{split}_qrels")
        qrels = _qrels_of(qrels_path, _json_judgements(qrels_path))
    else:
        there = ", ".join(_splits(root)) or "none"
        message = f"{qrels_path}: no such file, and no {split}_qrels.jsonl either (splits found: {there})"
        raise CollectionError(message, path=str(qrels_path), hint="--split names the judgements to use")
    queries_path = queries_file(root, split)
    queries = read_queries(queries_path)
    corpus_path = corpus_file(root)
    ids: dict[str, None] = {}
    for line, row in _rows(corpus_path):
        if row["_id"] in ids:
            raise CollectionError(f"{corpus_path}:{line}: id {row['_id']!r} stands twice", path=str(corpus_path))
        ids[str(row["_id"])] = None
    if not ids:
        raise CollectionError(f"{corpus_path}: no documents", path=str(corpus_path))
    searched = {query: grades for query, grades in qrels.items() if query in queries}
    if not searched:
        message = f"{qrels_path}: none of its {len(qrels)} queries is in {queries_path.name} ({_some(sorted(qrels))})"
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


def corpus_file(folder: Path) -> Path:
    """The documents of a collection.

    Raises:
        CollectionError: there is no such file.
    """
    return _data_file(folder, "corpus")


def queries_file(folder: Path, split: str) -> Path:
    """The queries of a collection: those of the split where its judgements are in FlagEmbedding's layout.

    Raises:
        CollectionError: there is no such file.
    """
    return _data_file(folder, "queries" if (folder / "qrels" / f"{split}.tsv").is_file() else f"{split}_queries")


def read_queries(path: Path) -> dict[str, str]:
    """All queries of a file, judged or not: id → text, in the order of the file.

    Raises:
        CollectionError: a line is badly formed, or an id stands twice.
    """
    queries: dict[str, str] = {}
    for line, row in _rows(path):
        if row["_id"] in queries:
            raise CollectionError(f"{path}:{line}: id {row['_id']!r} stands twice", path=str(path))
        queries[str(row["_id"])] = _text(path, line, row, "text")
    return queries


def read_qrels(path: Path) -> Qrels:
    """Judgements of three or four columns; one that is given twice must have one grade.

    Raises:
        CollectionError: a line is badly formed, or there is none.
    """
    return _qrels_of(path, _tsv_judgements(path))


def _splits(root: Path) -> list[str]:
    """The splits a folder has judgements of, in either layout."""
    found = {path.stem for path in (root / "qrels").glob("*.tsv")}
    for suffix in (".jsonl", ".jsonl.gz"):
        found |= {path.name.removesuffix(f"_qrels{suffix}") for path in root.glob(f"*_qrels{suffix}")}
    return sorted(found)


def _tsv_judgements(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Line, query, document and grade of each line of three or four columns."""
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
        yield line, fields[0].strip(), fields[-2].strip(), fields[-1].strip()


def _json_judgements(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """The same of FlagEmbedding's objects."""
    for line, row in read_objects(path):
        values = [row.get(key) for key in ("qid", "docid", "relevance")]
        if any(isinstance(value, bool) or not isinstance(value, str | int | float) for value in values):
            message = f'{path}:{line}: expected {{"qid": "…", "docid": "…", "relevance": 1}}, found {_keys(row)}'
            raise CollectionError(message, path=str(path))
        query, document, grade = (str(value) for value in values)
        yield line, query, document, grade


def _qrels_of(path: Path, judgements: Iterable[tuple[int, str, str, str]]) -> Qrels:
    """Judgements by query; one that is given twice must have one grade."""
    qrels: Qrels = {}
    for line, query, document, grade in judgements:
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


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """The JSON objects of a file, plain or gzipped, with their line numbers from 1; blank lines are none.

    Raises:
        CollectionError: a line is no object, or no text.
    """
    for line, text in read_lines(path):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise CollectionError(f"{path}:{line}: not valid JSON: {error}", path=str(path)) from error
        if not isinstance(row, dict):
            found = type(row).__name__
            raise CollectionError(f"{path}:{line}: expected an object, found {found}", path=str(path))
        if "\\ud" in text.lower():
            try:
                json.dumps(row, ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise CollectionError(f"{path}:{line}: half a surrogate pair: {error}", path=str(path)) from error
        yield line, row


def _rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """The texts of a file with their line numbers; ids come back as text."""
    for line, row in read_objects(path):
        name = row.get("_id", row.get("id"))
        if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
            raise CollectionError(f"{path}:{line}: expected an object with _id, found {_keys(row)}", path=str(path))
        row["_id"] = str(name)
        yield line, row


def _keys(row: dict[str, object]) -> str:
    return ", ".join(list(row)[:8]) or "an empty object"


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
