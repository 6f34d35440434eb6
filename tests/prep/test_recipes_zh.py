"""The Chinese recipes, and SQuAD: tiny files of exactly the published shape, with its traps, and golden records."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

import bgeprep
from bgeprep import ConfigError, CorpusError, recipes
from bgeprep.convert import convert

BOM = "\ufeff"
Rows = list[tuple[str, list[str], list[str], str, int]]


@dataclass(frozen=True)
class Case:
    """Raw files and the golden records of each source, with what is passed over."""

    recipe: str
    files: dict[str, str | bytes]
    records: dict[str, Rows]
    passed_over: dict[str, dict[str, int]]
    options: dict[str, str] = field(default_factory=dict)
    task: str = "retrieval"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _lines(*values: object) -> str:
    return "\n".join(value if isinstance(value, str) else _json(value) for value in values)


def _squad(*paragraphs: object) -> str:
    return _json({"version": "v2.0", "data": [{"title": "t", "paragraphs": [*paragraphs]}]})


SQUAD = _squad(
    {
        "context": " 甲乙丙。\n",
        "qas": [
            {
                "question": "谁?",
                "id": "1",
                "answers": [{"text": "甲", "answer_start": 0}, {"text": "甲"}, {"text": "乙"}],
            },
            {"question": "没有?", "id": "2", "answers": [], "is_impossible": True},
            {"question": " ", "id": "3", "answers": ["甲"]},
            {"question": None, "id": "4"},
            {"question": "何时?", "id": "5", "answers": {"text": ["丙"], "answer_start": [2]}},
            {"question": "何地?", "id": "6", "answers": "乙"},
            {"question": "为何?", "id": "7"},
        ],
    },
    {"context": "丁", "qas": "broken"},
    {"context": 7, "qas": [{"question": "x?", "answers": []}]},
)
CMRC = [
    {
        "context_id": "TRIAL_1",
        "context_text": "范廷颂是越南人。",
        "title": "范廷颂",
        "qas": [{"query_text": "他是哪国人？", "query_id": "Q1", "answers": ["越南", "越南", "越南人"]}],
    }
]
CMRC_SQUAD = _squad(
    {
        "id": "TRIAL_1",
        "context": "范廷颂是越南人。",
        "qas": [{"question": "他是哪国人？", "id": "Q", "answers": [{"text": "越南"}]}],
    }
)
DUREADER = [
    {
        "question": "怎么煮饭",
        "answers": ["加水。", " "],
        "documents": [
            {"title": "a", "is_selected": True, "paragraphs": ["广告", "先加水再煮。"], "most_related_para": 1},
            {"title": "b", "is_selected": False, "paragraphs": ["买电饭煲"], "most_related_para": 0},
            {"title": "c", "is_selected": False, "paragraphs": ["先加水再煮。"], "most_related_para": 0},
            {"title": "d", "is_selected": False, "paragraphs": ["x"], "most_related_para": 7},
            {"title": "e", "is_selected": True, "paragraphs": "一段文字"},
        ],
    },
    {
        "question": "没有答案",
        "answers": [],
        "documents": [{"is_selected": False, "paragraphs": ["y"], "most_related_para": 0}],
    },
    {
        "question": "",
        "answers": ["z"],
        "documents": [{"is_selected": True, "paragraphs": ["z"], "most_related_para": 0}],
    },
]
OCNLI = _lines(
    {
        "level": "easy",
        "sentence1": "一",
        "sentence2": "甲",
        "label": "entailment",
        "genre": "gov",
        "prem_id": "g",
        "id": 0,
    },
    {"sentence1": "一", "sentence2": "乙", "label": "contradiction"},
    {"sentence1": "一", "sentence2": "丙", "label": "neutral"},
    {"sentence1": "二", "sentence2": "丁", "label": "-"},
    {"sentence1": "一", "sentence2": "甲", "label": "contradiction"},
    {"sentence1": "三", "sentence2": "戊", "label": "contradiction"},
    {"sentence1": "三", "sentence2": "己", "label": "contradiction"},
    {"sentence1": "四", "sentence2": "庚", "label": "maybe"},
    {"sentence1": "四", "sentence2": "辛"},
    {"sentence1": "四"},
    {"sentence1": "四", "sentence2": " ", "label": "entailment"},
    {"sentence1": "五", "sentence2": "壬", "label": "entailment"},
)
NLI_RECORDS: Rows = [("一", ["甲"], ["乙"], "train.json", 1), ("五", ["壬"], [], "train.json", 12)]
NLI_PASSED = {"empty_text": 1, "missing_field": 1, "neutral": 1, "no_label": 1, "no_majority": 1, "no_positive": 2}
NLI_PASSED["unknown_label"] = 1

CASES = [
    Case(
        "squad",
        {"a.json": BOM + SQUAD},
        {
            "squad": [
                (q, ["甲乙丙。"], [], "a.json", n) for n, q in [(1, "谁?"), (5, "何时?"), (6, "何地?"), (7, "为何?")]
            ],
            "squad-answers": [
                ("谁?", ["甲", "乙"], [], "a.json", 1),
                ("何时?", ["丙"], [], "a.json", 5),
                ("何地?", ["乙"], [], "a.json", 6),
            ],
        },
        {
            "squad": {"broken_entry": 3, "empty_text": 1, "impossible": 1},
            "squad-answers": {"broken_entry": 3, "empty_text": 1, "impossible": 1, "no_answer": 1},
        },
        {"pairs": "all"},
    ),
    Case(
        "cmrc2018",
        {
            "data/cmrc2018_train.json": _json(CMRC),
            "squad-style-data/cmrc2018_train.json": CMRC_SQUAD,
            "data/cmrc2018_dev.json": "[]",
            "squad-style-data/cmrc2018_evaluate.py": "",
        },
        {"cmrc2018": [("他是哪国人？", ["范廷颂是越南人。"], [], "squad-style-data/cmrc2018_train.json", 1)]},
        {"cmrc2018": {}},
    ),
    Case(
        "cmrc2018",
        {"data/cmrc2018_train.json.gz": gzip.compress(_json(CMRC).encode())},
        {"cmrc2018-answers": [("他是哪国人？", ["越南", "越南人"], [], "data/cmrc2018_train.json.gz", 1)]},
        {"cmrc2018-answers": {}},
        {"pairs": "answer"},
    ),
    Case(
        "mlqa",
        {
            "test/test-context-zh-question-zh.json": SQUAD,
            "test/test-context-zh-question-en.json": CMRC_SQUAD,
            "mlqa-translate-train/zh_squad-translate-train-train-v1.1.json": CMRC_SQUAD,
            "mlqa-translate-train/de_squad-translate-train-train-v1.1.json": SQUAD,
        },
        {
            "mlqa": [
                (
                    "他是哪国人？",
                    ["范廷颂是越南人。"],
                    [],
                    "mlqa-translate-train/zh_squad-translate-train-train-v1.1.json",
                    1,
                ),
                *(
                    (q, ["甲乙丙。"], [], "test/test-context-zh-question-zh.json", n)
                    for n, q in [(1, "谁?"), (5, "何时?"), (6, "何地?"), (7, "为何?")]
                ),
            ]
        },
        {"mlqa": {"broken_entry": 3, "empty_text": 1, "impossible": 1}},
    ),
    Case(
        "dureader",
        {"search.train.json": _lines(*DUREADER, "{broken", [1]), "search.dev.json": _lines(DUREADER[0])},
        {
            "dureader": [("怎么煮饭", ["先加水再煮。"], ["买电饭煲"], "search.train.json", 1)],
            "dureader-answers": [("怎么煮饭", ["加水。"], [], "search.train.json", 1)],
        },
        {
            "dureader": {"empty_text": 1, "no_json": 1, "no_object": 1, "no_selected_paragraph": 1},
            "dureader-answers": {"empty_text": 1, "no_answer": 1, "no_json": 1, "no_object": 1},
        },
        {"pairs": "all"},
    ),
    Case(
        "simclue",
        {
            "train_rank.json": _lines(
                {"query": "甲", "title": "乙", "neg_title": "丙"}, {"query": "甲", "neg_title": "丙"}
            ),
            "train_pair.json": _lines({"query": "x", "title": "y"}),
        },
        {"simclue": [("甲", ["乙"], ["丙"], "train_rank.json", 1)]},
        {"simclue": {"missing_field": 1}},
        task="symmetric",
    ),
    Case(
        "csl",
        {
            "ts/dev.tsv": 'to title\t摘要"一"。\t题一\nto title\t摘要二。\t题 二\nto title\thalf\nto title\t摘要\t\n',
            "kg/dev.tsv": "to keywords\t摘要二。 题 二\t甲_乙_\nto keywords\t别的摘要。 题三\t丙\n",
            "cls_ctg/dev.tsv": "to category\t题\t工学\n",
        },
        {
            "csl": [("题一", ['摘要"一"。'], [], "ts/dev.tsv", 1), ("题 二", ["摘要二。"], [], "ts/dev.tsv", 2)],
            "csl-keywords": [("题 二", ["甲，乙"], [], "kg/dev.tsv", 1)],
        },
        {
            "csl": {"empty_text": 1, "half_row": 1, "other_task": 2},
            "csl-keywords": {"half_row": 1, "no_title": 1, "other_task": 3},
        },
        {"pairs": "all"},
    ),
    Case(
        "csl",
        {"csl_camera_readly.tsv": f"{BOM}题\t摘要\t甲_乙\t数学\t理学\r\n题二\t\t丙\t数学\t理学\r\n题三\t摘要三\r\n"},
        {
            "csl": [("题", ["摘要"], [], "csl_camera_readly.tsv", 1)],
            "csl-keywords": [
                ("题", ["甲，乙"], [], "csl_camera_readly.tsv", 1),
                ("题二", ["丙"], [], "csl_camera_readly.tsv", 2),
            ],
        },
        {"csl": {"half_row": 1, "other_task": 1}, "csl-keywords": {"half_row": 1}},
        {"pairs": "abstract,keywords"},
    ),
    Case(
        "amazon-reviews",
        {
            "dataset_zh_train.json": _lines(
                {
                    "review_id": "zh_1",
                    "stars": "1",
                    "review_body": '坏了\t"退货"',
                    "review_title": "差",
                    "language": "zh",
                },
                {"review_body": "broken", "review_title": "bad", "language": "en"},
                {"review_body": "没有标题", "language": "zh"},
                {"review_body": 5, "review_title": "数", "language": "zh"},
            ),
            "dataset_zh_test.json": _lines({"review_body": "a", "review_title": "b", "language": "zh"}),
        },
        {"amazon-reviews": [("差", ['坏了\t"退货"'], [], "dataset_zh_train.json", 1)]},
        {"amazon-reviews": {"missing_field": 1, "no_text": 1, "other_language": 1}},
    ),
    Case(
        "wiki-atomic-edits",
        {
            "chinese/insertions.tsv.gz": gzip.compress(
                '他说。\t"好"\t他说"好"。\nhalf row\nx\ty\tz\tw\n\t新\t新\n'.encode() + "坏\t坏\t坏\n".encode("gb18030")
            ),
            "chinese/deletions.tsv": "base_sentence\tphrase\tedited_sentence\n他说好。\t好\t他说。",
        },
        {
            "wiki-atomic-edits": [
                ("他说好。", ["他说。"], [], "chinese/deletions.tsv", 2),
                ("他说。", ['他说"好"。'], [], "chinese/insertions.tsv.gz", 1),
            ]
        },
        {"wiki-atomic-edits": {"empty_text": 1, "half_row": 1, "too_many_columns": 1, "wrong_encoding": 1}},
        task="symmetric",
    ),
    Case(
        "xlsum",
        {
            "chinese_simplified_train.jsonl": _lines(
                {"id": "1", "url": "u", "title": "题", "summary": "概要。", "text": "第一句。第二句。\n第三句。"},
                {"id": "2", "url": "u", "title": "", "summary": "概要", "text": "文"},
            ),
            "chinese_simplified_val.jsonl": _lines({"title": "a", "summary": "b", "text": "c"}),
        },
        {
            "xlsum": [("题", ["第一句。第二句。"], [], "chinese_simplified_train.jsonl", 1)],
            "xlsum-summary": [
                ("概要。", ["第一句。第二句。"], [], "chinese_simplified_train.jsonl", 1),
                ("概要", ["文"], [], "chinese_simplified_train.jsonl", 2),
            ],
            "xlsum-headline": [("题", ["概要。"], [], "chinese_simplified_train.jsonl", 1)],
        },
        {"xlsum": {"empty_text": 1}, "xlsum-headline": {"empty_text": 1}, "xlsum-summary": {}},
        {"pairs": "all", "passage_chars": "9"},
    ),
    Case(
        "mtp",
        {
            "zh/baike-00000.jsonl": _lines({"title": "题", "passage": "文"}, {"title": "题"}, "{"),
            "zh/baike-00001.jsonl": _lines(
                {"title": "题二", "passage": ["文二", "文二", "文三"]}, {"title": " ", "passage": "x"}
            ),
            "zh/qa.jsonl.gz": gzip.compress(_lines(["问", "答"], ["问"]).encode()),
        },
        {
            "mtp-baike": [
                ("题", ["文"], [], "zh/baike-00000.jsonl", 1),
                ("题二", ["文二", "文三"], [], "zh/baike-00001.jsonl", 1),
            ],
            "mtp-qa": [("问", ["答"], [], "zh/qa.jsonl.gz", 1)],
        },
        {"mtp-baike": {"empty_text": 1, "missing_field": 1, "no_json": 1}, "mtp-qa": {"missing_field": 1}},
    ),
    Case(
        "dureader-retrieval",
        {
            "train/dual.train.tsv": '问\t\t答"a"\t\t错\t0\n问\t\t答二\t\t错二\t0\n问\t\t答\t\t答二\t0\n'
            "空\t\t\t\t\t0\n半\t\t行\n"
            "别\t\t答\t\t错\t0\n问\t\t答三\t\t错三\t0\n",
            "train/dual.train.demo.tsv": "x\t\ty\t\tz\t0\n",
            "dev/dev.json": _lines({"question": "q", "answer_paragraphs": []}),
        },
        {
            "dureader-retrieval": [
                ("问", ['答"a"', "答二", "答"], ["错", "错二"], "train/dual.train.tsv", 1),
                ("别", ["答"], ["错"], "train/dual.train.tsv", 6),
                ("问", ["答三"], ["错三"], "train/dual.train.tsv", 7),
            ]
        },
        {"dureader-retrieval": {"empty_text": 1, "half_row": 1}},
    ),
    Case(
        "dureader-retrieval",
        {
            "dev/dev.json": _lines(
                {
                    "question": "问",
                    "question_id": "h",
                    "answer_paragraphs": [{"paragraph_id": "p", "paragraph_text": "答"}],
                },
                {"question": "没有", "answer_paragraphs": [{"paragraph_id": "p"}]},
                {"question_id": "h", "answer_paragraphs": ["x"]},
            )
        },
        {"dureader-retrieval": [("问", ["答"], [], "dev/dev.json", 1)]},
        {"dureader-retrieval": {"empty_text": 1, "no_positive": 1}},
        {"splits": "dev"},
    ),
    Case(
        "nli-zh",
        {
            "ATEC/ATEC.train.data": "甲\t乙\t1\n丙\t丁\t0\n甲\t戊\t0\n甲\t己\n甲\t己\t2\n甲\t\t1\na\tb\tc\t1",
            "ATEC/ATEC.test.data": "x\ty\t1\n",
        },
        {"nli-zh-atec": [("甲", ["乙"], ["戊"], "ATEC/ATEC.train.data", 1)]},
        {
            "nli-zh-atec": {
                "empty_text": 1,
                "half_row": 1,
                "no_positive": 1,
                "too_many_columns": 1,
                "unknown_label": 1,
            }
        },
        task="symmetric",
    ),
    Case("ocnli", {"train.json": OCNLI}, {"ocnli": NLI_RECORDS}, {"ocnli": NLI_PASSED}, task="symmetric"),
    Case("cmnli", {"train.json": OCNLI}, {"cmnli": NLI_RECORDS}, {"cmnli": NLI_PASSED}, task="symmetric"),
]


def _raw(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.recipe)
def test_published_shapes_give_golden_records(case: Case, tmp_path: Path) -> None:
    raw = _raw(tmp_path / "raw", case.files)
    streams = recipes.read(case.recipe, raw, options=case.options)
    assert {name: [row for frame in stream for row in frame.rows()] for name, stream in streams.items()} == case.records
    assert {
        name: dict(sorted(stream.tally.passed_over.items())) for name, stream in streams.items()
    } == case.passed_over
    for stream in streams.values():
        assert stream.purpose.task == case.task
        instruction = "为这个句子生成表示以用于检索相关文章：" if case.task == "retrieval" else ""
        assert case.recipe == "squad" or stream.purpose.instruction == instruction
    written = []
    for name in ("a", "b"):
        convert(case.recipe, raw, tmp_path / name, options=case.options)
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).glob("*.jsonl")})
    assert written[0] == written[1], "the same bytes each time"
    assert {name.removesuffix(".jsonl") for name in written[0]} == set(case.records)


def test_what_is_converted_can_be_sharded(tmp_path: Path) -> None:
    """The records of a converted folder, and of the stream itself, are the same set."""
    lines = [f"怎么煮第{number // 2}种饭\t\t第{number}种办法是加水。\t\t买一个锅{number}\t0" for number in range(20)]
    raw = _raw(tmp_path / "raw", {"train/dual.train.tsv": _lines(*lines)})
    convert("dureader-retrieval", raw, tmp_path / "pairs")
    bgeprep.shard((), tmp_path / "a", config=tmp_path / "pairs/mix.toml")
    bgeprep.shard(recipes.read("dureader-retrieval", raw), tmp_path / "b")
    a, b = bgeprep.open(tmp_path / "a"), bgeprep.open(tmp_path / "b")
    assert len(a) == 10
    assert {(row["query"], *row["pos"]) for row in a} == {(row["query"], *row["pos"]) for row in b}


def test_grades_of_sts_b_are_scores(tmp_path: Path) -> None:
    raw = _raw(
        tmp_path,
        {"STS-B/STS-B.train.data": "一架飞机\t一架客机\t5\n有人弹琴\t有人唱歌\t2.6\n甲\t丙\t7\n甲\t\t1\n甲\t丙\n"},
    )
    stream = recipes.read("nli-zh", raw)["nli-zh-sts-b"]
    frame = pl.concat(list(stream))
    assert frame["pos_scores"].to_list() == [[5.0], [pytest.approx(2.6)]]
    assert frame["query"].to_list() == ["一架飞机", "有人弹琴"]
    assert stream.tally.passed_over == {"unknown_label": 1, "empty_text": 1, "half_row": 1}
    assert stream.purpose.task == "symmetric"
    bgeprep.shard({"sts": stream}, tmp_path / "set")
    assert sorted(row["pos_scores"] for row in bgeprep.open(tmp_path / "set")) == [[pytest.approx(2.6)], [5.0]]


def test_another_encoding_is_counted_or_told(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.recipe == "ocnli")
    gbk = _raw(tmp_path / "gbk", {"train.json": OCNLI.encode("gb18030")})
    stream = recipes.read("ocnli", gbk)["ocnli"]
    assert not [row for frame in stream for row in frame.rows()]
    assert stream.tally.passed_over["wrong_encoding"] == 12
    told = recipes.read("ocnli", gbk, options={"encoding": "gb18030"})["ocnli"]
    assert [row for frame in told for row in frame.rows()] == case.records["ocnli"]
    squad = _raw(tmp_path / "squad", {"a.json": SQUAD.encode("gb18030")})
    with pytest.raises(CorpusError, match="encoding=gb18030") as told_where:
        convert("squad", squad, tmp_path / "out")
    assert told_where.value.line == 1
    assert (
        convert("squad", squad, tmp_path / "out", options={"encoding": "gb18030"})["sources"]["squad"]["records"] == 4
    )


@pytest.mark.parametrize("content", ["", "[]", '{"data": 3}', '{"data": [', "\x00"])
def test_what_has_not_the_shape_of_squad_says_so(tmp_path: Path, content: str) -> None:
    raw = _raw(tmp_path, {"a.json": content})
    with pytest.raises(CorpusError, match=r"a\.json"):
        list(recipes.read("squad", raw)["squad"])


def test_choices_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    raw = _raw(tmp_path, {"cmrc2018_dev.json": "[]", "chinese_simplified_train.jsonl": ""})
    with pytest.raises(ConfigError, match="expected context, answer or all"):
        recipes.read("cmrc2018", raw, options={"pairs": "question", "splits": "all"})
    with pytest.raises(CorpusError, match="splits=all"):
        recipes.read("cmrc2018", raw)
    assert list(recipes.read("cmrc2018", raw / "cmrc2018_dev.json")) == ["cmrc2018"], "named itself, it is read"
    with pytest.raises(ConfigError, match=r"options\.script: expected simplified"):
        recipes.read("cmrc2018", raw, options={"script": "t2s", "splits": "all"})
    with pytest.raises(CorpusError, match="train_rank"):
        recipes.read("simclue", raw)
    with pytest.raises(ConfigError, match="expected languages as zh"):
        recipes.read("mlqa", raw, options={"context": "../"})


def test_the_chinese_sets_of_bge_are_there_and_say_what_was_not_checked() -> None:
    sets = {case.recipe for case in CASES} | {"t2ranking", "mmarco"}
    assert {"cmrc2018", "csl", "mtp", "simclue", "xlsum", "nli-zh"} < sets <= set(recipes.names())
    for name in sets:
        recipe = recipes.find(name)
        assert recipe.languages == () or "zh" in recipe.languages
        assert bool(recipe.unchecked) == (name not in {"ocnli", "simclue", "squad"})
        assert recipe.languages == () or {"script", "width"} <= set(recipe.options)
