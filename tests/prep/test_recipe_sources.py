"""From raw files to a shard set: converted with a mix, or named in a config; the purpose of each source goes along."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bgeprep
from bgeprep import ConfigError, CorpusError, recipes
from bgeprep.cli import main
from bgeprep.convert import convert
from bgeprep.recipes.purpose import INSTRUCTIONS
from bgeprep.recipes.stackexchange.dump import question_text
from tests.prep.recipe_fixtures import write_fixture


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Raw files of several data sets, a folder each."""
    for recipe in ("nq", "quora", "medi", "beir", "s2orc", "pile", "wudao-text"):
        write_fixture(recipe, tmp_path / "raw" / recipe)
    return tmp_path / "raw"


def _sources(shards: Path) -> dict[str, dict[str, Any]]:
    return {source["name"]: source for source in bgeprep.inspect(shards)["sources"]}


def _pairs(shards: Path) -> set[tuple[str, str, tuple[str, ...]]]:
    return {(row["source"], row["query"], tuple(row["pos"])) for row in bgeprep.open(shards)}


def test_converted_records_are_sharded_by_their_mix(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pairs"
    for recipe in ("nq", "quora", "beir"):
        assert main(["convert", "--recipe", recipe, "--in", str(raw / recipe), "--out", str(out)]) == 0
        assert f"next: bgeprep shard --config {out}/mix.toml --out shards/" in capsys.readouterr().out
    summary = json.loads((out / "_recipe.json").read_text(encoding="utf-8"))
    assert [*summary["sources"]] == ["nq", "quora", "quora-triplets", "mills"]
    assert summary["sources"]["nq"]["passed_over"]["wrong_encoding"] == 1
    assert main(["shard", "--config", str(out / "mix.toml"), "--out", str(tmp_path / "set"), "--dedup", "none"]) == 0
    sources = _sources(tmp_path / "set")
    assert {name: (one["task"], one["language"], one["instruction"]) for name, one in sources.items()} == {
        "nq": ("retrieval", "en", INSTRUCTIONS["en"]),
        "quora": ("symmetric", "en", None),
        "quora-triplets": ("symmetric", "en", None),
        "mills": ("retrieval", "en", INSTRUCTIONS["en"]),
    }
    assert ("mills", "what is still", ("A pond is still.", "A number for an id.")) in _pairs(tmp_path / "set")
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "set")]) == 0
    assert "quora-triplets" in capsys.readouterr().out


def test_a_recipe_named_in_a_config_makes_the_same_rows(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert("nq", raw / "nq", tmp_path / "pairs")
    config = tmp_path / "mix.toml"
    config.write_text(
        """
        [[sources]]
        name = "questions"
        recipe = "nq"
        path = "raw/nq/NQ-*.gz"
        weight = 2.0
        [[sources]]
        name = "quora-triplets"
        recipe = "quora"
        path = "raw/quora"
        [[sources]]
        name = "own"
        recipe = "beir"
        path = "raw/beir"
        task = "symmetric"
        language = "de"
        options = { split = "test" }
        [[sources]]
        name = "nq"
        path = "pairs/nq.jsonl"
        """,
        encoding="utf-8",
    )
    shards = tmp_path / "set"
    assert main(["shard", "--config", str(config), "--out", str(shards), "--dedup", "none"]) == 0
    said = capsys.readouterr().err
    assert "questions: its recipe passed over empty_text 1, no_json 1, other_shape 2, wrong_encoding 1" in said
    sources = _sources(shards)
    assert (sources["questions"]["instruction"], sources["questions"]["weight"]) == (INSTRUCTIONS["en"], 2.0)
    assert (sources["quora-triplets"]["task"], sources["quora-triplets"]["instruction"]) == ("symmetric", None)
    own = sources["own"]
    assert (own["task"], own["language"], own["instruction"]) == ("symmetric", "de", None)
    rows = _pairs(shards)
    assert {row[1:] for row in rows if row[0] == "questions"} == {row[1:] for row in rows if row[0] == "nq"}
    assert len(rows) == 2 + 2 + 1 + 1
    run = json.loads((shards / "run.json").read_text(encoding="utf-8"))
    assert run["passed_over"]["questions"]["no_json"] == 1
    assert {str(raw / "beir"), str(raw / "nq/NQ-*.gz")} <= set(run["inputs"])
    assert not list(shards.glob(".work*"))


def test_a_set_is_up_to_date_until_raw_files_or_options_change(raw: Path, tmp_path: Path) -> None:
    def settings(options: str = "") -> Path:
        config = tmp_path / "mix.toml"
        text = f'[[sources]]\nname = "nq"\nrecipe = "nq"\npath = "raw/nq"\n{options}'
        config.write_text(text, encoding="utf-8")
        return config

    first = bgeprep.shard(out=tmp_path / "set", config=settings())
    assert bgeprep.shard(out=tmp_path / "set", config=settings()).up_to_date
    assert first.passed_over["nq"]["other_shape"] == 2
    with pytest.raises(bgeprep.ShardError, match="another config"):
        bgeprep.shard(out=tmp_path / "set", config=settings('options = { encoding = "latin-1" }'))
    other = bgeprep.shard(out=tmp_path / "other", config=settings('options = { encoding = "latin-1" }'))
    assert (first.rows_read, other.rows_read) == (2, 3)
    file = raw / "nq/NQ-train_pairs.jsonl.gz"
    file.write_bytes(file.read_bytes() * 2)
    with pytest.raises(bgeprep.ShardError, match="other input"):
        bgeprep.shard(out=tmp_path / "set", config=settings())


def test_the_same_bytes_for_any_threads_and_memory(raw: Path, tmp_path: Path) -> None:
    config = tmp_path / "mix.toml"
    config.write_text('[[sources]]\nname = "mills"\nrecipe = "beir"\npath = "raw/beir"\n', encoding="utf-8")
    hashes = {
        bgeprep.shard(out=tmp_path / f"set{threads}", config=config, threads=threads, memory=memory, tmp=tmp).hash
        for threads, memory, tmp in [(1, "64MiB", None), (3, "512MiB", tmp_path / "scratch")]
    }
    assert len(hashes) == 1
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            'name = "q"\nrecipe = "quora"\npath = "raw/quora"',
            "makes quora, quora-triplets of these files, none called q",
        ),
        ('name = "q"\nrecipe = "qora"\npath = "raw/quora"', "did you mean quora"),
        ('name = "q"\nrecipe = "nq"\npath = "raw/nq"\nformat = "csv"', "sources.q.format: recipe nq knows"),
        ('name = "q"\nrecipe = "nq"\npath = "raw/nq"\ncolumns = { query = "x" }', "sources.q.columns: recipe nq knows"),
        ('name = "q"\nrecipe = "nq"\npath = "raw/nq"\noptions = { a = "b" }', "recipe nq has no such option"),
    ],
)
def test_a_source_that_cannot_be_made_is_wrong_usage(
    raw: Path, tmp_path: Path, source: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mix.toml").write_text(f"[[sources]]\n{source}\n", encoding="utf-8")
    assert main(["shard", "--config", str(tmp_path / "mix.toml"), "--out", str(tmp_path / "set")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "set/manifest.json").exists()


def test_a_damaged_raw_file_leaves_no_set_and_no_records(raw: Path, tmp_path: Path) -> None:
    file = raw / "nq/NQ-train_pairs.jsonl.gz"
    file.write_bytes(file.read_bytes()[:-9])
    (tmp_path / "mix.toml").write_text('[[sources]]\nname = "nq"\nrecipe = "nq"\npath = "raw/nq"\n', encoding="utf-8")
    with pytest.raises(CorpusError, match="truncated"):
        bgeprep.shard(out=tmp_path / "set", config=tmp_path / "mix.toml")
    assert not (tmp_path / "set/manifest.json").exists()
    assert not (tmp_path / "set/.work-streams").exists()
    with pytest.raises(CorpusError, match="truncated"):
        convert("nq", raw / "nq", tmp_path / "pairs")
    assert not list((tmp_path / "pairs").iterdir())


def test_a_mix_keeps_what_was_written_into_it(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    convert("nq", raw / "nq", out)
    mix = out / "mix.toml"
    mix.write_text(mix.read_text(encoding="utf-8") + "weight = 3.0\n", encoding="utf-8")
    convert("quora", raw / "quora", out)
    convert("nq", raw / "nq", out, overwrite=True)
    weights = {source.name: source.weight for source in bgeprep.load_config(mix).sources}
    assert weights == {"nq": 3.0, "quora": None, "quora-triplets": None}
    with pytest.raises(CorpusError, match="is there already, made of other raw files or options; hint: choose another"):
        convert("nq", raw / "nq", out, options={"encoding": "latin-1"})
    with pytest.raises(CorpusError, match="holds pairs, and recipe pile makes text"):
        convert("pile", raw / "pile", out)
    (out / "_recipe.json").write_text("[]", encoding="utf-8")
    with pytest.raises(CorpusError, match="no summary of `bgeprep convert`"):
        convert("s2orc", raw / "s2orc", out)


def test_the_same_command_makes_what_an_interrupted_one_left_out(raw: Path, tmp_path: Path) -> None:
    whole = convert("s2orc", raw / "s2orc", tmp_path / "whole")
    out = tmp_path / "pairs"

    def stop(source: str, _records: int) -> None:
        if source == "s2orc-citation-titles":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert("s2orc", raw / "s2orc", out, report=stop)
    first = out / "s2orc-title-abstract.jsonl"
    assert {path.name for path in out.glob("*.jsonl")} == {first.name}
    written = first.stat().st_mtime_ns
    assert convert("s2orc", raw / "s2orc", out) == whole
    assert first.stat().st_mtime_ns == written
    for path in (tmp_path / "whole").iterdir():
        if path.name != "mix.toml":  # it names its folder
            assert (out / path.name).read_bytes() == path.read_bytes()
    first.unlink()
    assert convert("s2orc", raw / "s2orc", out) == whole
    assert first.exists()


@pytest.mark.parametrize("step", range(1, 6))
def test_killed_between_any_two_writes_it_goes_on(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    whole, out = tmp_path / "whole/pairs", tmp_path / "killed/pairs"
    said = convert("nq", raw / "nq", whole)
    into_place, writes = Path.replace, []

    def kill(self: Path, target: Path) -> Path:
        writes.append(target)
        if len(writes) == step:
            raise KeyboardInterrupt
        return into_place(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", kill)
        with pytest.raises(KeyboardInterrupt):
            convert("nq", raw / "nq", out)
    assert convert("nq", raw / "nq", out) == said
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }
    (out / "mix.toml").write_text("", encoding="utf-8")
    convert("nq", raw / "nq", out)
    assert not (out / "mix.toml").read_bytes(), "what the user took out stays out"
    (out / "_recipe.json").write_bytes((whole / "_recipe.json").read_bytes()[:40])
    with pytest.raises(CorpusError, match="no summary"):
        convert("nq", raw / "nq", out)
    assert convert("nq", raw / "nq", out, overwrite=True) == said


def test_a_mix_is_toml_whatever_stands_in_it(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "a\nb\x7f"
    convert("columns", _questions(tmp_path), out, options={"query": "q", "pos": "p", "language": "e\x7fn"})
    (source,) = bgeprep.load_config(out / "mix.toml").sources
    assert source.language == "e\x7fn"
    assert "a\\nb\\u007f/mix.toml" in (out / "mix.toml").read_text(encoding="utf-8")


def _questions(folder: Path) -> Path:
    path = folder / "questions.jsonl"
    path.write_text('{"q": "how tall is it", "p": "31 metres"}\n', encoding="utf-8")
    return path


def test_a_name_that_shard_refuses_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'rejects', which recipe columns makes"):
        convert(
            "columns", _questions(tmp_path), tmp_path / "out", options={"query": "q", "pos": "p", "name": "rejects"}
        )
    assert not (tmp_path / "out").exists()


def test_two_calls_at_once_lose_nothing_of_each_other(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    between: list[str] = []

    def meanwhile(source: str, _records: int) -> None:
        if not between:
            between.append(source)
            convert("quora", raw / "quora", out)
            with pytest.raises(CorpusError, match="another call is writing it"):
                convert("nq", raw / "nq", out)

    convert("nq", raw / "nq", out, report=meanwhile)
    sources = {"nq", "quora", "quora-triplets"}
    assert set(json.loads((out / "_recipe.json").read_bytes())["sources"]) == sources
    assert {source.name for source in bgeprep.load_config(out / "mix.toml").sources} == sources


def test_texts_of_two_recipes_are_one_set_of_texts(raw: Path, tmp_path: Path) -> None:
    convert("pile", raw / "pile", tmp_path / "text", options={"sets": "Pile-CC"})
    convert("wudao-text", raw / "wudao-text", tmp_path / "text")
    summary = json.loads((tmp_path / "text/_recipe.json").read_text(encoding="utf-8"))
    assert "instruction" not in summary["sources"]["wudao-text"]
    bgeprep.shard(out=tmp_path / "set", config=tmp_path / "text/mix.toml")
    shards = bgeprep.open(tmp_path / "set")
    assert shards.kind == "text"
    assert {(row["source"], row["title"], row["text"]) for row in shards} >= {
        ("pile", "", "A first page."),
        ("wudao-text", "水车", "水车转动。 它很旧。"),
    }
    assert {name: one["language"] for name, one in _sources(tmp_path / "set").items()} == {
        "pile": "en",
        "wudao-text": "zh",
    }
    bgeprep.shard(recipes.read("pile", raw / "pile"), tmp_path / "streamed")
    assert _sources(tmp_path / "streamed")["pile"]["language"] == "en"


def test_rows_of_mixed_tasks_become_sources_of_one_each(raw: Path, tmp_path: Path) -> None:
    convert("medi", raw / "medi", tmp_path / "pairs")
    bgeprep.shard(out=tmp_path / "set", config=tmp_path / "pairs/mix.toml")
    tasks = {name: one["task"] for name, one in _sources(tmp_path / "set").items()}
    assert sorted(tasks.values()) == ["retrieval", "symmetric"], tasks


def test_options_on_the_command_line(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["convert", "--recipe", "beir", "--in", str(raw / "beir"), "--out", str(tmp_path / "pairs"), "--json"]
    assert main([*flags, "--option", "split=test", "language=zh", "--option", "task=symmetric"]) == 0
    source = json.loads(capsys.readouterr().out)["sources"]["mills"]
    assert (source["task"], source["language"], source["instruction"], source["records"]) == ("symmetric", "zh", "", 1)
    assert main([*flags, "--overwrite", "--option", "split"]) == 2
    assert "--option: expected NAME=VALUE, found 'split'" in capsys.readouterr().err
    assert main([*flags, "--overwrite", "--option", "split=dev"]) == 1
    assert "expected qrels/dev.tsv beside it; hint: --option split=test" in capsys.readouterr().err
    assert main([*flags, "--overwrite", "--processes", "0"]) == 2


def test_what_is_from_memory_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--json"]) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert listed["msmarco"]["stages"] == ["stage 2"]
    assert listed["s2orc"]["languages"] == ["en"]
    for name, one in listed.items():
        assert main(["recipes", "show", name]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert ("from memory, not checked against the real files: " in said) == bool(one["unchecked"])
        assert all(f"{option} " in said for option in one["options"])
    assert {"hotpotqa", "reddit", "fever", "wudao", "pile"} <= {
        name for name, one in listed.items() if one["unchecked"]
    }
    assert main(["recipes", "show", "nq", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unchecked"] == ""
    assert main(["recipes"]) == 0
    said = capsys.readouterr().out
    stages = ["pre-training (RetroMAE)", "wudao-text", "stage 1:", "reddit", "stage 2:", "hotpotqa", "layouts", "beir"]
    assert [said.index(one) for one in stages] == sorted(said.index(one) for one in stages)


HALF = json.dumps("bad \ud83d")


@pytest.mark.parametrize(
    ("recipe", "name", "content"),
    [
        ("nq", "NQ-train_pairs.jsonl", f'[{HALF}, "p1"]\n["good \\ud83d\\ude00", "p2"]\n["{HALF[5:-1]}"]\n'),
        ("medi", "medi-data.json", None),
        ("squad", "train.json", None),
    ],
)
def test_half_a_surrogate_pair_is_passed_over(tmp_path: Path, recipe: str, name: str, content: str | None) -> None:
    good = "good \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")
    if recipe == "medi":
        rows = [
            {"query": ["", q], "pos": ["", "what is good"], "neg": ["", "n"], "task_name": "quora"}
            for q in ("bad \ud83d", good)
        ]
        content = json.dumps(rows)
    elif recipe == "squad":
        asked = [
            {"question": good, "id": "1", "answers": [{"text": "p"}]},
            {"question": "bad \ud83d", "id": "2", "answers": [{"text": "p"}]},
            {"question": good, "id": "3", "answers": [{"text": "\ude00"}]},
            {"question": 7, "id": "\ude00"},
        ]
        content = json.dumps({"data": [{"paragraphs": [{"context": "c p", "qas": asked}]}]})
    path = tmp_path / name
    path.write_text(content or "", encoding="utf-8")
    (source,) = convert(recipe, path, tmp_path / "out")["sources"].values()
    assert source["records"] == 1
    assert source["passed_over"]["half_character"] == {"nq": 2, "medi": 1, "squad": 2}[recipe]
    assert source["examples"]["half_character"][0].startswith(name)
    bgeprep.shard(recipes.read(recipe, path), tmp_path / "shards")


def test_a_label_that_is_neither_makes_no_negative(tmp_path: Path) -> None:
    rows = "".join(
        f"how tall\t\t{text}\t{label}\n" for text, label in [("31 m", 1), ("oak", 0), ("fir", "-"), ("elm", 7)]
    )
    path = tmp_path / "cross.train.tsv"
    path.write_text(f"{rows}how tall\t\tash\t\n", encoding="utf-8")
    stream = recipes.read("dureader-retrieval", path)["dureader-retrieval"]
    assert [row[:3] for frame in stream for row in frame.rows()] == [("how tall", ["31 m"], ["oak"])]
    assert stream.tally.passed_over == {"no_majority": 1, "unknown_label": 1, "no_label": 1}


def test_a_title_is_unescaped_once() -> None:
    title = "What does &amp;lt;b&amp;gt;  mean\n in &quot;HTML&quot;?"
    assert question_text({"Title": title}, body=False) == 'What does &lt;b&gt; mean in "HTML"?'
