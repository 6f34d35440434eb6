"""What the near-duplicate jobs have in common: reading passages, shingles, clusters, writing what stays.

A job is `job.py SOURCE TARGET`: it finds near duplicates among the passages (first positives) of a JSONL file and
leaves in the folder TARGET

- `kept.jsonl`: the rows of SOURCE that stay, the first of each cluster;
- `clusters.bin`: a signed 64-bit integer a row, the number (from 0) of the row that stands for its cluster.

Standard library only: it runs in the environment of every peer.
"""

from __future__ import annotations

import json
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Of 128 permutations: a pair of similarity 0.8 shares one of 16 bands of 8 with a probability of 95 %.
PERMUTATIONS, BANDS, ROWS, THRESHOLD = 128, 16, 8, 0.8

_CJK = "\u3005-\u3007\u3021-\u3029\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_TOKEN = re.compile(f"[{_CJK}]|[^\\W_{_CJK}]+")


def passages(source: str) -> Iterator[str]:
    """The first positive of each row."""
    with Path(source).open("rb") as file:
        for line in file:
            yield json.loads(line)["pos"][0]


def shingles(text: str) -> list[str]:
    """5-grams of tokens, a CJK character being one, so that Chinese is compared like English."""
    plain = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    words = _TOKEN.findall(plain)
    if len(words) < 5:
        return [" ".join(words)]
    return list(map(" ".join, zip(words, words[1:], words[2:], words[3:], words[4:], strict=False)))


@dataclass
class Clusters:
    """Disjoint sets of rows; the first row of a set stands for it."""

    parents: list[int] = field(default_factory=list)

    def add(self) -> int:
        """A row of its own; its number."""
        self.parents.append(len(self.parents))
        return len(self.parents) - 1

    def root(self, row: int) -> int:
        """The first row of the set."""
        while self.parents[row] != row:
            self.parents[row] = self.parents[self.parents[row]]
            row = self.parents[row]
        return row

    def unite(self, a: int, b: int) -> None:
        """Makes two sets one."""
        a, b = self.root(a), self.root(b)
        self.parents[max(a, b)] = min(a, b)


def finish(source: str, target: str, root: Callable[[int], int], version: str) -> None:
    """Writes what stays and which rows belong together; prints the counts."""
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    roots = array("q")
    kept = 0
    with Path(source).open("rb") as rows, (folder / "kept.jsonl").open("wb") as out:
        for number, line in enumerate(rows):
            roots.append(root(number))
            if roots[-1] == number:
                out.write(line)
                kept += 1
    (folder / "clusters.bin").write_bytes(roots.tobytes())
    print(json.dumps({"rows": len(roots), "kept": kept, "version": version}))
