"""Writes the seed corpus of the fuzz targets: small files, valid and damaged. The same bytes every time.

    python fuzz/make_corpus.py

Texts are invented. What a run of the fuzzer adds is not kept here; a find becomes a test and a file `find-*`, which
this program leaves alone.
"""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa

CORPUS = Path(__file__).resolve().parent / "corpus"


def packed(data: bytes, level: int = 6) -> bytes:
    """One gzip member without a time in it."""
    return gzip.compress(data, level, mtime=0)


def json_seeds() -> dict[str, bytes]:
    """JSON lines and arrays."""
    rows = [
        {"query": "what is a magnet", "pos": ["a rock that attracts iron"], "neg": ["a shoe", "a cat"]},
        {"query": "什么是磁铁", "pos": "吸引铁的石头", "id": 7},
        {
            "query": "q",
            "pos": ["p"],
            "pos_scores": [0.5],
            "neg": ["n"],
            "neg_scores": [None],
            "prompt": "i",
            "type": "x",
        },
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    escaped = json.dumps({"query": 'é\n\U0001d11e"\\/\x7f', "pos": ["\t"]})
    return {
        "lines": "\n".join(lines).encode() + b"\n",
        "crlf-bom-blank": b"\xef\xbb\xbf" + "\r\n \r\n".join(lines).encode(),
        "array": ("[" + ",\n".join(lines) + "]\n").encode(),
        "array-empty": b" [ ] ",
        "array-cut": ("[" + ",".join(lines)).encode()[:-9],
        "array-of-arrays": b'[["q", "p", "n"], ["q2", "p2"]]',
        "texts": b'["query", "positive", "negative"]\n["query", "positive"]\n["one"]\n[]\n',
        "sets": b'{"set": ["a", "b", "c"]}\n{"set": ["a"]}\n{"set": 3}\n',
        "labels": b'{"sentence1": "a", "sentence2": "b", "label": 1}\n'
        b'{"sentence1": "a", "sentence2": "c", "label": "-"}\n',
        "scores": b'{"sentence1": "a", "sentence2": "b", "score": 4.5e0}\n'
        b'{"sentence1": "a", "sentence2": "c", "score": null}\n',
        "escapes": escaped.encode()
        + b'\n{"query": "\\ud834", "pos": ["p"]}\n{"query": "q", "pos": ["p"], "x": "\\q"}\n',
        "numbers": b'{"query": "q", "pos": ["p"], "x": [1e999, -0, 0.1, 12345678901234567890, 1E+2]}\n'
        b'{"x": 01}\n{"x": .5}\n',
        "twice": b'{"query": "a", "query": "b", "pos": ["p"], "pos": ["r"]}\n',
        "broken": b'{"query": "q"\n{"query" "q"}\n{\n}\n{"a": 1,}\nnull\ntrue\n"text"\n3\n{"query": NaN}\n{} {}\n',
        "not-utf8": b'{"query": "caf\xe9", "pos": ["p"]}\n{"query": "a\x00", "pos": ["p"]}\n\xff\xfe\n',
        "nested": b'{"query": "q", "pos": ["p"], "x": ' + b"[" * 200 + b"]" * 200 + b"}\n" + b"[" * 300 + b"\n",
        "nested-find-stack": b'["q", "p"]\n{"x": ' + b"[" * 3000 + b"\n" + b'{"query":' * 3000 + b"\n",
        "object-over-lines": json.dumps(rows[0], indent=1).encode(),
        "table": b"query,pos\nq,p\n",
    }


def gzip_seeds() -> dict[str, bytes]:
    """Gzip files, and plain bytes to be packed."""
    lines = b'{"query": "what is a magnet", "pos": ["a rock"]}\n["q", "p"]\nbroken\n'
    whole = packed(lines)
    named = io.BytesIO()
    with gzip.GzipFile("pairs.jsonl", "wb", fileobj=named, mtime=0) as file:
        file.write(lines)
    return {
        "one-member": whole,
        "members": packed(lines[:20]) + packed(b"") + packed(lines[20:], 1),
        "stored": packed(lines, 0),
        "named": named.getvalue(),
        "empty-member": packed(b""),
        "cut": whole[:-12],
        "no-trailer": whole[:-8],
        "header-alone": whole[:10],
        "magic-alone": b"\x1f\x8b",
        "wrong-magic": b"\x1f\x8c" + whole[2:],
        "wrong-method": whole[:2] + b"\x07" + whole[3:],
        "wrong-checksum": whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:],
        "wrong-length": whole[:-1] + b"\x01",
        "trailing-bytes": whole + b"trailing",
        "trailing-zeros": whole + bytes(16),
        "second-member-cut": whole + whole[:15],
        "twice-packed": packed(whole),
        "bomb": packed(b'["q", "' + b"a" * 2_000_000 + b'"]\n', 9),
        "plain": lines,
        "plain-empty": b"",
    }


def arrow_bytes(table: pa.Table, stream: bool, **options: object) -> bytes:
    """The table as an IPC file or stream."""
    sink = io.BytesIO()
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in table.to_batches(max_chunksize=2):
            writer.write_batch(batch)
    return sink.getvalue()


def arrow_seeds() -> dict[str, bytes]:
    """Arrow IPC files and streams."""
    queries, positives = ["what is a magnet", "什么是磁铁", None], ["a rock that attracts iron", "石头", "p"]
    plain = pa.table({"query": queries, "pos": positives})
    lists = pa.table(
        {
            "query": pa.array(queries, pa.large_string()),
            "pos": pa.array([["a", "b"], [], None], pa.list_(pa.string())),
            "neg": pa.array([["n"], ["m", "l"], []], pa.large_list(pa.string_view())),
            "neg_scores": pa.array([[0.5], [1, None], []], pa.list_(pa.float32())),
            "id": pa.array([1, 2, 3], pa.int32()),
        }
    )
    odd = pa.table(
        {
            "query": pa.array(queries).dictionary_encode(),
            "pos": pa.array([["a"], ["b"], ["c"]], pa.list_(pa.string(), 1)),
            "label": pa.array([True, False, None]),
            "x": pa.array([{"a": 1}, None, {"a": 2}]),
        }
    )
    file, stream = arrow_bytes(plain, stream=False), arrow_bytes(plain, stream=True)
    return {
        "file": file,
        "stream": stream,
        "lists-file": arrow_bytes(lists, stream=False),
        "lists-stream": arrow_bytes(lists, stream=True),
        "odd-file": arrow_bytes(odd, stream=False),
        "odd-stream": arrow_bytes(odd, stream=True),
        "lz4": arrow_bytes(plain, stream=False, compression="lz4"),
        "zstd": arrow_bytes(plain, stream=True, compression="zstd"),
        "empty-file": arrow_bytes(plain.slice(0, 0), stream=False),
        "empty-stream": arrow_bytes(plain.slice(0, 0), stream=True),
        "no-pair": arrow_bytes(pa.table({"a": [1, 2]}), stream=False),
        "file-cut": file[: len(file) // 2],
        "footer-cut": file[:-12],
        "stream-cut": stream[: len(stream) // 2],
        "wrong-magic": b"ARROW2" + file[6:],
        "magic-alone": b"ARROW1\x00\x00",
        "marker-alone": b"\xff\xff\xff\xff",
        "long-metadata": b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(8),
        "long-footer": file[:-10] + b"\xff\xff\xff\x7f" + file[-6:],
    }


def main() -> None:
    """Writes all three folders."""
    for target, seeds in (("json", json_seeds()), ("gzip", gzip_seeds()), ("arrow", arrow_seeds())):
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds.items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
