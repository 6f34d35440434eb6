"""JSONL → trimmed, filtered, distinct by (query, positive), shuffled → uncompressed Parquet, with duckdb.

Shuffled by a hash of the query; larger than memory goes to disk, as duckdb does by itself.
"""

from __future__ import annotations

import json
import sys

import duckdb

source, target = sys.argv[1:]
connection = duckdb.connect()
connection.execute(
    """
    COPY (
        SELECT query, pos, neg FROM (
            SELECT DISTINCT ON (query, pos[1]) query, pos, neg FROM (
                SELECT trim(query) AS query,
                       list_transform(pos, lambda x: trim(x)) AS pos,
                       list_transform(neg, lambda x: trim(x)) AS neg
                FROM read_json($source, format = 'newline_delimited',
                               columns = {query: 'VARCHAR', pos: 'VARCHAR[]', neg: 'VARCHAR[]'})
            )
            WHERE length(query) >= 2 AND length(pos[1]) >= 2 AND query <> pos[1]
        )
        ORDER BY hash(query, 42)
    ) TO '"""
    + target.replace("'", "''")
    + "' (FORMAT parquet, COMPRESSION uncompressed)",
    {"source": source},
)
count = connection.execute("SELECT count(*) FROM read_parquet($target)", {"target": target}).fetchone()
print(json.dumps({"rows": count[0], "version": duckdb.__version__}))
