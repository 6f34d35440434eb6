"""Near duplicates with rensa: RMinHash of batches, RMinHashLSH, candidates checked by their estimated similarity.

Signatures are made in batches, which rensa spreads over the cores; shingles are made in Python.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from itertools import islice

from passages import BANDS, PERMUTATIONS, THRESHOLD, Clusters, finish, passages, shingles
from rensa import RMinHash, RMinHashLSH

source, target = sys.argv[1:]
index = RMinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, num_bands=BANDS)
clusters = Clusters()
signatures: list[RMinHash] = []
texts = passages(source)
while batch := [shingles(text) for text in islice(texts, 10_000)]:
    made = RMinHash.from_token_sets(batch, num_perm=PERMUTATIONS, seed=42)
    index.insert_many(made, start_key=len(signatures))
    for signature, candidates in zip(made, index.query_all(made), strict=True):
        row = clusters.add()
        signatures.append(signature)
        for other in candidates:
            if other < row and signature.jaccard(signatures[other]) >= THRESHOLD:
                clusters.unite(row, other)
finish(source, target, clusters.root, version("rensa"))
