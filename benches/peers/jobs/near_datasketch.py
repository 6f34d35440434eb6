"""Near duplicates with datasketch: MinHash, MinHashLSH, candidates checked by their estimated similarity."""

from __future__ import annotations

import sys
from importlib.metadata import version

from datasketch import MinHash, MinHashLSH
from passages import BANDS, PERMUTATIONS, ROWS, THRESHOLD, Clusters, finish, passages, shingles

source, target = sys.argv[1:]
index = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, ROWS))
clusters = Clusters()
signatures: list[MinHash] = []
sets = ([one.encode() for one in shingles(text)] for text in passages(source))
for signature in MinHash.generator(sets, num_perm=PERMUTATIONS, seed=42):
    row = clusters.add()
    for other in index.query(signature):
        if signature.jaccard(signatures[other]) >= THRESHOLD:
            clusters.unite(row, other)
    index.insert(row, signature, check_duplication=False)
    signatures.append(signature)
finish(source, target, clusters.root, version("datasketch"))
