"""Makes `examples/demo/data` from the published originals; the result is in the repository.

BGE_DATA=/folder/of/originals python examples/demo/make_data.py

`BGE_DATA` holds `medquad/medquad-xml.tar.gz` (github.com/abachaa/MedQuAD, CC BY 4.0) and
`csl/ts/*.tsv.gz` (github.com/ydli-ai/CSL, Apache-2.0). Steps:

1. Read every question with a non-empty answer from eight MedQuAD collections that publish answers. The
   ninth, GARD, is left out: most of its answers repeat the question, so there is little to learn.
2. Leave out answers that are lists of links, and answers that serve four diseases or more word for word
   ("This condition is inherited in an autosomal recessive pattern …"): they answer no question in particular.
3. Unite documents into diseases: the same name, synonym or UMLS concept, over all collections.
4. Hold out one disease in nine by a hash of its name: all its questions and answers form the collection,
   and none of its rows is trained on. A training row whose answer also stands in the collection goes too.
5. Cut answers after the sentence that passes `ANSWER_CHARACTERS`: the demo reads 128 tokens.
6. Give each training row up to two negatives: answers to other questions about the same disease, which
   name it as often and answer something else.
7. Write the training pairs in four shapes, one source each, and the collection in the BEIR layout.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import re
import sys
import tarfile
import unicodedata
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

ANSWER_CHARACTERS = 500
HELD_OUT_OF = 9
SHARED_ANSWERS = 4
CHINESE_ROWS = 600
NEGATIVES = 2

# The folder of each collection in the archive → the demo's source that it goes to.
COLLECTIONS = {
    "1_CancerGov_QA": "institutes",
    "3_GHR_QA": "genetics",
    "4_MPlus_Health_Topics_QA": "topics",
    "5_NIDDK_QA": "kidney-nerves",
    "6_NINDS_QA": "kidney-nerves",
    "7_SeniorHealth_QA": "institutes",
    "8_NHLBI_QA_XML": "institutes",
    "9_CDC_QA": "institutes",
}


@dataclass(frozen=True)
class Pair:
    """One question of one document, with its answer."""

    collection: str
    document: str
    focus: str
    names: tuple[str, ...]
    kind: str
    number: str
    question: str
    answer: str

    @property
    def id(self) -> str:
        """Names the pair over all collections."""
        return f"{self.collection.split('_')[1]}-{self.document}-{self.number}"


def read_medquad(archive: Path) -> Iterator[Pair]:
    """The questions that have an answer, in the order of the file names."""
    with tarfile.open(archive) as members:
        for member in sorted(members.getmembers(), key=lambda member: member.name):
            collection = Path(member.name).parent.name
            stream = members.extractfile(member) if member.name.endswith(".xml") else None
            if stream is None or collection not in COLLECTIONS:
                continue
            root = ET.fromstring(stream.read())
            focus = fold(root.findtext("Focus") or "")
            names = [focus, *(fold(item.text or "") for item in root.iter("Synonym"))]
            names += [(item.text or "").strip() for item in root.iter("CUI")]
            for entry in root.iter("QAPair"):
                question, answer = entry.find("Question"), entry.find("Answer")
                if question is None or answer is None or not (answer.text or "").strip():
                    continue
                yield Pair(
                    collection,
                    Path(member.name).stem,
                    focus,
                    tuple(name for name in names if name),
                    question.get("qtype", ""),
                    entry.get("pid", ""),
                    re.sub(r"\s+\?$", "?", " ".join((question.text or "").split())),
                    cut(" ".join((answer.text or "").split())),
                )


def fold(text: str) -> str:
    """A name as it is compared: compatibility form, lower case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def cut(text: str) -> str:
    """The text up to the end of the sentence that passes `ANSWER_CHARACTERS`."""
    end = re.compile(r"[.!?](?=\s)").search(text, ANSWER_CHARACTERS)
    return text[: min(end.end() if end else len(text), 2 * ANSWER_CHARACTERS)]


def diseases(pairs: Iterable[Pair]) -> dict[tuple[str, str], str]:
    """(collection, document) → the smallest name of its disease; documents with a name in common are one."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    documents = {(pair.collection, pair.document): pair.names for pair in pairs if pair.names}
    for names in documents.values():
        for name in names[1:]:
            first, second = sorted((root(names[0]), root(name)))
            parent[second] = first
    return {document: root(names[0]) for document, names in documents.items()}


def useful(pairs: list[Pair], disease: dict[tuple[str, str], str]) -> list[Pair]:
    """The pairs whose answer says something of the disease asked for."""
    served = defaultdict(set)
    for pair in pairs:
        served[fold(pair.answer)].add(disease.get((pair.collection, pair.document), ""))
    return [
        pair
        for pair in pairs
        if (pair.collection, pair.document) in disease
        and len(served[fold(pair.answer)]) < SHARED_ANSWERS
        and not pair.answer.startswith("These resources address")
    ]


def held_out(name: str) -> bool:
    """Whether a disease belongs to the collection; a hash of its name decides, so that any row order does."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % HELD_OUT_OF == 0


def write_collection(pairs: list[Pair], disease: dict[tuple[str, str], str], folder: Path) -> None:
    """Corpus: the answers. Queries: the questions. Grade 2: its own answer, 1: another publisher's to the same."""
    documents: dict[str, str] = {}
    queries: dict[str, tuple[str, str]] = {}
    grades: dict[tuple[str, str], int] = {}
    topics: dict[tuple[str, str], list[str]] = defaultdict(list)
    for pair in pairs:
        document = documents.setdefault(fold(pair.answer), pair.id)
        query, _ = queries.setdefault(fold(pair.question), (pair.id, pair.question))
        grades[query, document] = 2
        topics[disease[pair.collection, pair.document], pair.kind].append(document)
    for pair in pairs:
        query, _ = queries[fold(pair.question)]
        for document in topics[disease[pair.collection, pair.document], pair.kind]:
            grades.setdefault((query, document), 1)
    texts = {pair.id: pair.answer for pair in pairs}
    write_lines(folder / "corpus.jsonl.gz", ({"_id": i, "title": "", "text": texts[i]} for i in documents.values()))
    write_lines(folder / "queries.jsonl.gz", ({"_id": i, "text": text} for i, text in queries.values()))
    lines = [f"{query}\t{document}\t{grade}\n" for (query, document), grade in grades.items()]
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines), encoding="utf-8")


def negatives(pairs: list[Pair], disease: dict[tuple[str, str], str]) -> dict[str, list[str]]:
    """Pair id → answers to questions of another kind about the same disease, `NEGATIVES` at most."""
    answers: dict[str, list[Pair]] = defaultdict(list)
    right: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        right[fold(pair.question)].add(fold(pair.answer))
        answers[disease[pair.collection, pair.document]].append(pair)
    found = {}
    for pair in pairs:
        others = [
            other.answer
            for other in answers[disease[pair.collection, pair.document]]
            if other.kind != pair.kind and fold(other.answer) not in right[fold(pair.question)]
        ]
        # By a hash, else every row of a document would get the same first two.
        others.sort(key=lambda answer: hashlib.sha256(f"{pair.id} {answer}".encode()).digest())
        found[pair.id] = list(dict.fromkeys(others))[:NEGATIVES]
    return found


def write_pairs(pairs: list[Pair], negative: dict[str, list[str]], folder: Path) -> None:
    """Four sources in four shapes, so that the demo shows that formats are found by themselves."""
    by_source: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_source[COLLECTIONS[pair.collection]].append(pair)
    write_lines(
        folder / "institutes.jsonl.gz",
        ({"query": p.question, "pos": [p.answer], "neg": negative[p.id]} for p in by_source["institutes"]),
    )
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("question", "answer", "negative"))
    rows.writerows((p.question, p.answer, "".join(negative[p.id][:1])) for p in by_source["genetics"])
    write_bytes(folder / "genetics.csv.gz", gzip.compress(text.getvalue().encode(), 9, mtime=0))
    nerves = by_source["kidney-nerves"]
    frame = pl.DataFrame(
        {
            "anchor": [p.question for p in nerves],
            "positive": [p.answer for p in nerves],
            "negative": [negative[p.id] for p in nerves],
        },
        schema_overrides={"negative": pl.List(pl.String)},
    )
    folder.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(folder / "kidney-nerves.parquet", compression="zstd", compression_level=19)
    write_lines(folder / "topics.jsonl", ([p.question, p.answer] for p in by_source["topics"]))


def write_chinese(originals: Path, folder: Path) -> None:
    """Titles and abstracts of Chinese papers: pairs from the development file, a collection from the test file."""
    pairs = [line.split("\t") for line in read_lines(originals / "dev.tsv.gz")][:CHINESE_ROWS]
    write_lines(
        folder / "pairs" / "csl.jsonl.gz", ({"title": title, "abstract": abstract} for _, abstract, title in pairs)
    )
    test = [line.split("\t") for line in read_lines(originals / "test.tsv.gz")][: CHINESE_ROWS // 2]
    collection = folder / "csl-titles"
    write_lines(
        collection / "corpus.jsonl.gz",
        ({"_id": f"d{i}", "title": "", "text": abstract} for i, (_, abstract, _) in enumerate(test)),
    )
    write_lines(
        collection / "queries.jsonl.gz", ({"_id": f"q{i}", "text": title} for i, (_, _, title) in enumerate(test))
    )
    (collection / "qrels").mkdir(exist_ok=True)
    lines = "".join(f"q{i}\td{i}\t1\n" for i in range(len(test)))
    (collection / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + lines, encoding="utf-8")


def read_lines(path: Path) -> list[str]:
    """The lines of a gzipped text file."""
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def write_lines(path: Path, rows: Iterable[object]) -> None:
    """JSON lines, gzipped where the name says so, without a time stamp: the same rows give the same bytes."""
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    write_bytes(path, gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def main() -> int:
    """Writes everything and prints what came of it."""
    originals = Path(os.environ.get("BGE_DATA", "data"))
    archive = originals / "medquad" / "medquad-xml.tar.gz"
    if not archive.is_file():
        print(f"{archive} not found\nhint: set BGE_DATA to the folder of the originals", file=sys.stderr)
        return 1
    out = Path(__file__).parent / "data"
    every = list(read_medquad(archive))
    disease = diseases(every)
    pairs = useful(every, disease)
    if len({pair.id for pair in every}) < len(every):
        raise SystemExit(f"{archive}: two pairs have the same id")
    test = [pair for pair in pairs if held_out(disease[pair.collection, pair.document])]
    asked, answered = {fold(pair.question) for pair in test}, {fold(pair.answer) for pair in test}
    train = [
        pair
        for pair in pairs
        if not held_out(disease[pair.collection, pair.document])
        and fold(pair.question) not in asked
        and fold(pair.answer) not in answered
    ]
    write_pairs(train, negatives(train, disease), out / "pairs")
    write_collection(test, disease, out / "medquad-heldout")
    write_chinese(originals / "csl" / "ts", out / "zh")
    print(f"{len(every)} pairs read, {len(pairs)} useful, {len(train)} for training, {len(test)} held out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
