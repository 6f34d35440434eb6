"""Raw files of English data sets: invented texts in exactly the published shape, with the traps such files have.

By recipe: path → content. A path that ends in .gz, .bz2 or .zst is packed so; rows under .parquet become a table.
"""

from __future__ import annotations

import bz2
import gzip
import html
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

Content = bytes | str | list[dict[str, Any]]


def _lines(*values: Any) -> str:
    """JSON lines; a text among them is a line as it is."""
    return "".join((one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)) + "\n" for one in values)


def _table(name: str, *rows: dict[str, Any] | str) -> str:
    """A table of a Stack Exchange dump, byte order mark and all; a text among the rows is a line as it is."""
    lines = [
        one
        if isinstance(one, str)
        else "  <row " + " ".join(f'{key}="{html.escape(str(value))}"' for key, value in one.items()) + " />"
        for one in rows
    ]
    body = "\n".join(line.replace("\n", "&#xA;") for line in lines)
    return f'\ufeff<?xml version="1.0" encoding="utf-8"?>\n<{name}>\n{body}\n</{name}>'


# fmt: off
POSTS = _table(
    "posts",
    {"Id": 1, "PostTypeId": 1, "AcceptedAnswerId": 5, "Score": 3, "Title": "How do I prune a pear tree?",
     "Body": "<p>It is <em>old</em> &amp; tall.</p>\n<pre><code>if (a &lt; b)</code></pre>"},
    {"Id": 2, "PostTypeId": 2, "ParentId": 1, "Score": 4, "Body": "<p>In winter.</p><ul><li>Saw</li><li>Wax</li></ul>"},
    {"Id": 3, "PostTypeId": 1, "Score": 0, "Title": "Why are my beans yellow?", "Body": "<p>All of them.</p>"},
    {"Id": 4, "PostTypeId": 2, "ParentId": 3, "Score": 0, "Body": "<p>No idea.</p>"},
    {"Id": 5, "PostTypeId": 2, "ParentId": 1, "Score": 4, "Body": '<p>Late in <a href="http://x.example">winter</a>.</p>'},
    {"Id": 6, "PostTypeId": 5, "Score": 0, "Body": "About the tag pruning"},
    {"Id": 7, "PostTypeId": 1, "Score": 1, "Title": "Pruning an old pear", "Body": "<p>When?</p>"},
    {"Id": 8, "PostTypeId": 2, "ParentId": 99, "Score": 9, "Body": "<p>Its question is gone.</p>"},
    '  <row Id="9" PostTypeId="2" ParentId="7" Score="2" Body="&lt;p&gt;cut off',
    {"Id": 10, "PostTypeId": 2, "ParentId": 7, "Body": "<p>Without votes.</p>"},
    {"Id": 11, "PostTypeId": 2, "ParentId": 7, "Score": 1, "Body": "<p><!-- nothing --></p>"},
)

LINKS = _table(
    "postlinks",
    {"Id": 1, "PostId": 7, "RelatedPostId": 1, "LinkTypeId": 3},
    {"Id": 2, "PostId": 3, "RelatedPostId": 1, "LinkTypeId": 1},
    {"Id": 3, "PostId": 3, "RelatedPostId": 98, "LinkTypeId": 3},
    {"Id": 4, "PostId": 3, "LinkTypeId": 3},
)

TRIPLES = _lines(
    {"query": "how tall is the old lighthouse", "pos": ["It is 31 metres tall."], "neg": ["It was built of oak.", ""]},
    {"query": "who keeps it", "pos": ["Two brothers do.", "The brothers Hale."], "neg": []},
    {"query": "nobody answers", "pos": [], "neg": ["no"]},
    ["another", "shape"],
    {"query": "a number", "pos": [7], "neg": []},
    '{"query": "cut off", "pos": ["the li',
)

PAGES = [
    {"id": "-LRB-An_example-RRB-", "text": "", "lines": ""},
    {"id": "Orla_Finch_-LRB-painter-RRB-", "text": "Orla Finch -LRB- born 1901 -RRB- was a painter , and `` quiet '' .",
     "lines": "0\tOrla Finch"},
    {"id": "Zoe\u0301_Marsh", "text": "Zoé Marsh sailed alone .", "lines": "0\tZoé Marsh sailed alone .\tZoé Marsh"},
]

SQUARE = "The mill pond freezes early. " * 6

FIXTURES: dict[str, dict[str, Content]] = {
    "nq": {
        "NQ-train_pairs.jsonl.gz": "\ufeff".encode()
        + _lines(
            ["who built the mill", "The mill was built by Ann Rowe &amp; sons."],
            ["half a row"],
            ["", "no question"],
            '["cut off", "the',
            {"set": ["another", "shape"]},
            "",
        ).encode()
        + '["café in Latin-1", "x"]\n'.encode("latin-1")
        + b'["when was it built", "In 1790,\\tthey say."]',
    },
    "msmarco": {"msmarco-triplets.jsonl.gz": TRIPLES},
    "hotpotqa": {"hotpotqa.jsonl.gz": TRIPLES},
    "quora": {
        "quora_duplicates.jsonl.gz": _lines(["How do I swim?", "How can I learn to swim?"], ["Why?", None]),
        "quora_duplicates_triplets.jsonl.gz": _lines(
            ["How do I swim?", "How can I learn to swim?", "How do fish swim?"]
        ),
    },
    "s2orc": {
        "S2ORC_title_abstract.jsonl.gz": _lines(["On mills", "We measure\n\nmills."], ["No abstract", " "]),
        "S2ORC_citations_titles.jsonl.gz": _lines(["On mills", "On ponds"]),
        "S2ORC_citations_abstracts.jsonl.gz": _lines(["We measure mills.", "We measure ponds."]),
    },
    "sentence-transformers": {
        "AllNLI.jsonl.gz": _lines(["A dog runs.", "An animal moves.", "A cat sleeps."]),
        "WikiAnswers.jsonl.gz": _lines(
            {"set": ["how deep is it", "what is its depth", "its depth?"]}, {"set": ["alone"]}
        ),
        "gooaq_pairs.jsonl.gz": _lines(["is salt a mineral", "Yes, salt is a mineral."]),
        "squad_pairs.jsonl.gz": _lines({"query": "where is it", "pos": ["By the sea."]}),
        "stackexchange_title_body_jsonl/beer.stackexchange.com.jsonl.gz": _lines(
            ["Why foam?", "My glass is full of it."]
        ),
        "stackexchange_title_body_jsonl/cooking.stackexchange.com.jsonl.gz": _lines(["Why salt?", "In the water."]),
        "not of the list.jsonl.gz": _lines(["a", "b"]),
    },
    "reddit": {
        "reddit_title_text_2010.jsonl.gz": _lines(
            {"title": "My cat &amp; I", "body": "We  moved.\n\n\nIt was fine.", "subreddit": "cats"},
            {"title": "Gone", "body": "[removed]", "subreddit": "cats"},
            {"title": "No body", "subreddit": "cats"},
            {"title": "Empty", "body": " ", "subreddit": "cats"},
            {"title": 7, "body": "A number for a title.", "subreddit": "cats"},
            ["a list"],
        )
    },
    "pile": {
        "00.jsonl.zst": _lines(
            {"text": "A first\n\npage.", "meta": {"pile_set_name": "Pile-CC"}},
            {"text": "", "meta": {"pile_set_name": "Pile-CC"}},
            {"meta": {"pile_set_name": "Pile-CC"}},
            {"text": "An abstract.", "meta": {"pile_set_name": "PubMed Abstracts"}},
        ),
        "val.jsonl.zst": _lines({"text": "No meta at all."}),
    },
    "msmarco-passage": {
        "corpus.jsonl.gz": _lines(
            {"docid": "0", "title": "Tides", "text": "The tide turns twice &lt;a day&gt;."},
            {"docid": "1", "title": "-", "text": "A dash for a title."},
            {"docid": "2", "title": "No text"},
        ),
        "collection.tsv": '0\tA "quote that never closes.\n1\tA tab\tinside.\n2\n3\t \n4\tThe last, no line end.',
    },
    "nli-simcse": {
        "nli_for_simcse.csv": "sent0,sent1,hard_neg\r\n"
        '"A man, tall, walks.",A man walks.,"He said ""no"".\nThen he sat."\r\n'
        "Half a row,only\r\n"
        "Empty, ,third\r\n"
        "One,too,many,columns\r\n"
        "She reads.,Someone reads.,Nobody reads."
    },
    "medi": {
        "medi-data.json": json.dumps(
            [
                {
                    "query": ["Represent the question; ", "who sang it"],
                    "pos": ["Represent the document; ", "Ada sang it."],
                    "neg": ["Represent the document; ", "It rained."],
                    "task_id": 1,
                },
                {
                    "query": ["Represent the sentence; ", "It is late."],
                    "pos": ["Represent the sentence; ", "Late, it is."],
                    "neg": ["Represent the sentence; ", ""],
                    "task_id": 2,
                },
                {"query": ["only an instruction"], "pos": ["a", "b"], "neg": ["c", "d"], "task_id": 3},
                {"query": ["a", " "], "pos": ["a", "b"], "neg": ["c", "d"], "task_id": 3},
                "no object",
            ]
        )
    },
    "cc-net": {
        "en_head_0000.json.gz": _lines(
            {
                "url": "http://www.mill-times.example/1",
                "source_domain": "www.mill-times.example",
                "length": 90,
                "title": "The old mill &amp; its pond | Mill Times",
                "raw_content": "The old mill & its pond | Mill Times\nSkip to content\nIt stands by the "
                "river.\nShare this:\n"
                "Share this\nIt still turns.\n© 2019 Mill Times",
                "language": "en",
                "language_score": 0.99,
            },
            {"title": "Rye - a grain", "source_domain": "farm.example", "raw_content": f"{SQUARE}\nRye follows."},
            {"title": "", "source_domain": "a.example", "raw_content": "No title."},
            {"title": "Menu", "source_domain": "a.example", "raw_content": "Menu\nHome\nLog in"},
            {"title": "No text", "source_domain": "a.example"},
        ),
        "de_head_0000.json.gz": _lines(
            {"title": "Die Mühle", "source_domain": "", "raw_content": "Sie steht am Fluss."}
        ),
    },
    "wudao": {
        "WuDaoCorpus2.0_base_200G/part-2021009337.json": "\ufeff"
        + json.dumps(
            [
                {
                    "id": 1,
                    "uniqueKey": "a",
                    "titleUkey": "b",
                    "dataType": "百科",
                    "title": "水车",
                    "content": "水车转动。\n  \n它很旧。",
                },
                {"id": 2, "uniqueKey": "c", "titleUkey": "d", "dataType": "新闻", "title": "", "content": "没有标题。"},
                {"id": 3, "uniqueKey": "e", "titleUkey": "f", "dataType": "新闻", "title": "池塘", "content": None},
                ["no object"],
            ],
            ensure_ascii=False,
            indent=1,
        ),
        "WuDaoCorpus2.0_base_200G/part-2021010000.json": json.dumps(
            [{"id": 4, "dataType": "新闻", "title": "冬天", "content": "池塘结冰了。" * 4}], ensure_ascii=False
        ),
    },
    "stackexchange": {
        "gardening.stackexchange.com/Posts.xml": POSTS,
        "beer.stackexchange.com.jsonl.gz": _lines(
            {"title_body": "Why foam? My glass is full &amp; I wait.", "upvoted_answer": "Pour slowly."},
            {"title_body": "No answer"},
        ),
    },
    "stackexchange-duplicates": {
        "gardening.stackexchange.com/Posts.xml.gz": POSTS,
        "gardening.stackexchange.com/PostLinks.xml.gz": LINKS,
        "stackexchange_duplicate_questions_title_title.jsonl.gz": _lines(
            ["Prune a pear?", "How do I prune a pear tree?"]
        ),
        "stackexchange_duplicate_questions_body_body.jsonl.gz": _lines(["It is old.", "It is an old one."]),
        "stackexchange_duplicate_questions_title-body_title-body.jsonl.gz": _lines(
            ["Prune? It is old.", "How? An old one."]
        ),
    },
    "fever": {
        "train.jsonl": _lines(
            {
                "id": 1,
                "verifiable": "VERIFIABLE",
                "label": "SUPPORTS",
                "claim": "Orla Finch painted.",
                "evidence": [
                    [[10, 11, "Orla_Finch_-LRB-painter-RRB-", 0], [10, 12, "Zo\u00e9_Marsh", 0]],
                    [[13, 14, "Orla_Finch_-LRB-painter-RRB-", 1]],
                ],
            },
            {
                "id": 2,
                "verifiable": "NOT VERIFIABLE",
                "label": "NOT ENOUGH INFO",
                "claim": "She sang.",
                "evidence": [[[15, None, None, None]]],
            },
            {
                "id": 3,
                "verifiable": "VERIFIABLE",
                "label": "REFUTES",
                "claim": "Zoé Marsh never sailed.",
                "evidence": [[[16, 17, "Zoe\u0301_Marsh", 0]]],
            },
            {
                "id": 4,
                "verifiable": "VERIFIABLE",
                "label": "SUPPORTS",
                "claim": "A lost page.",
                "evidence": [[[18, 19, "Lost_page", 0]]],
            },
            {"id": 5, "verifiable": "VERIFIABLE", "label": "SUPPORTS", "claim": "No evidence.", "evidence": []},
        ),
        "wiki-pages/wiki-001.jsonl": _lines(*PAGES[:2]),
        "wiki-pages/wiki-002.jsonl": _lines(PAGES[2]),
    },
    "beir": {
        "mills/corpus.jsonl.gz": _lines(
            {"_id": "d1", "title": "Mills", "text": "A mill grinds."},
            {"_id": "d2", "title": "", "text": "A pond is still."},
            {"_id": 3, "text": "A number for an id."},
            {"_id": "d4", "title": "", "text": " "},
        ),
        "mills/queries.jsonl": _lines(
            {"_id": "q2", "text": "what is still", "metadata": {}},
            {"_id": "q1", "text": "what grinds"},
            {"_id": "q3", "text": "never judged"},
            {"_id": "q4", "text": "only judged low"},
            {"_id": "q5", "text": "its document is gone"},
        ),
        "mills/qrels/train.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td2\t1\nq2\t3\t1\nq1\td1\t2\n"
        "q4\td1\t0\nq5\td9\t1\nq9\td1\t1\nq1\td1\n",
        "mills/qrels/test.tsv": "q3 0 d1 1\nq3 0\n",
    },
    "columns": {
        "rows.jsonl": _lines(
            {"q": "what grinds", "a": [{"text": "A mill."}, {"text": "Teeth."}], "bad": "A pond."},
            {"q": "", "a": [{"text": "x"}]},
            {"q": "no answer", "a": []},
        ),
        "table.csv": 'q,a,bad\n"what, then",An answer.,Another.\nhalf,\n',
        "table.tsv": 'q\ta\tbad\na "quote\tAn answer.\t\n',
        "array.json": json.dumps([{"q": "in an array", "a": "Yes."}, 7]),
        "rows.parquet": [{"q": "in a table", "a": "Yes.", "bad": None, "more": 1}],
    },
    "wikipedia": {
        "20220301.en/train-00000-of-00041.parquet": [
            {
                "id": "12",
                "url": "https://en.wikipedia.org/wiki/Mill",
                "title": "Mill",
                "text": "A mill grinds.\n\nIt turns.",
            },
            {"id": "13", "url": "", "title": "Empty", "text": " "},
        ],
        "20220301.en/rest.jsonl": _lines(
            {"id": "14", "url": "", "title": "Pond", "text": "A pond is still."}, {"id": "15"}
        ),
    },
    "wikipedia-sections": {
        "enwiki-latest-pages-articles.xml.bz2": "<mediawiki><siteinfo></siteinfo>\n"
        + "".join(
            f"<page>\n<title>{title}</title>\n<ns>0</ns>\n<revision><model>wikitext</model>\n<text>{html.escape(text)}"
            "</text></revision>\n</page>\n"
            for title, text in [
                (
                    "Mill",
                    f"A '''mill''' grinds. {SQUARE}\n== History ==\n=== Early ===\n{SQUARE}\n\n{SQUARE}\n"
                    f"== See also ==\n* {SQUARE}\n== Parts ==\nA stone.",
                ),
                ("Old mill", "#REDIRECT [[Mill]]"),
            ]
        )
        + "</mediawiki>\n",
        "20220301.en/train-00000-of-00001.parquet": [
            {
                "id": "1",
                "url": "",
                "title": "Pond",
                "text": f"A pond. {SQUARE}\n\nIce\n\n{SQUARE}\n\nSee also\n\n{SQUARE}\n\nUses\n\n{SQUARE}",
            },
        ],
    },
}
# fmt: on
FIXTURES["wudao-text"] = FIXTURES["wudao"]

OPTIONS: dict[str, list[dict[str, str]]] = {
    "beir": [{}, {"split": "test", "language": "de", "task": "symmetric"}],
    "columns": [{"query": "q", "pos": "a,a.text", "neg": "bad", "name": "mine", "task": "symmetric", "language": "en"}],
    "cc-net": [{}, {"passage_chars": "60", "language": "en"}],
    "fever": [{}, {"labels": "both"}],
    "medi": [{}, {"instructions": "keep"}],
    "nq": [{}, {"encoding": "latin-1"}],
    "pile": [{}, {"sets": "PubMed Abstracts"}],
    "sentence-transformers": [{}, {"other_task": "symmetric"}],
    "stackexchange": [{}, {"query": "title", "least_votes": "4"}],
    "stackexchange-duplicates": [{}, {"text": "title"}],
    "wudao": [{"passage_chars": "14"}],
    "wudao-text": [{}, {"types": "新闻"}],
}
"""What each recipe is asked for beside the files, a run each; nothing where it is not named."""


def write_fixture(recipe: str, folder: Path) -> Path:
    """The raw files of a recipe in a folder."""
    for name, content in FIXTURES[recipe].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            pl.DataFrame(content).write_parquet(path)
            continue
        plain = content.encode() if isinstance(content, str) else content
        if path.suffix == ".gz":
            # two members, as some tools write them
            plain = gzip.compress(plain[:40], mtime=0) + gzip.compress(plain[40:], mtime=0)
        elif path.suffix == ".bz2":
            plain = bz2.compress(plain)
        elif path.suffix == ".zst":
            plain = pa.Codec("zstd").compress(plain, asbytes=True)
        path.write_bytes(plain)
    return folder
