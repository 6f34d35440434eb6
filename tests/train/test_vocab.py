"""`bgetrain vocab`: the same bytes each time, read alike by transformers and by our own tokenizer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import bgeprep
from bgetrain.__main__ import main
from bgetrain.encode import Encoder
from bgetrain.vocab import SPECIAL, train_vocabulary
from tests.prep.conftest import documents  # noqa: F401 - a fixture

TEXTS = [
    "The HEART pumps blood, and naïve cafés don't.",
    "糖尿病患者的血糖控制与管理研究。",
    "x" * 300,
    "emoji 🎉 and [MASK] \u200b soft\u00adhyphen",
    "",
]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory, documents: list[dict[str, str]]) -> list[Path]:  # noqa: F811
    """Real documents as a set of texts, and pairs of title and text as a set of pairs."""
    folder = tmp_path_factory.mktemp("sets")
    records = {
        "texts": [{"title": one["text"][:20], "text": one["text"]} for one in documents],
        "pairs": [{"query": one["text"][:20], "pos": [one["text"], one["text"][20:]]} for one in documents],
    }
    for name, lines in records.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        bgeprep.shard(folder / f"{name}.jsonl", folder / name, config=bgeprep.PrepConfig())
    return [folder / "texts", folder / "pairs"]


def test_two_processes_write_the_same_bytes(sets: list[Path], tmp_path: Path) -> None:
    flags = ["--vocab_size", "3000", "--model_config", "tiny", "--max_bytes", "64k"]
    for number in (1, 2):
        command = [sys.executable, "-W", "ignore", "-m", "bgetrain", "vocab", "--data", *map(str, sets)]
        environment = {**os.environ, "PYTHONHASHSEED": str(number), "RAYON_NUM_THREADS": str(number)}
        subprocess.run([*command, "--output_dir", str(tmp_path / str(number)), *flags], env=environment, check=True)
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert names == ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    again = train_vocabulary(sets, tmp_path / "3", vocab_size=3000, max_bytes=64_000, seed=7)
    assert 0 < again.sampled < 1, "the sample was one"
    assert (tmp_path / "1/vocab.txt").read_bytes() != (tmp_path / "3/vocab.txt").read_bytes(), "another sample"


@pytest.mark.parametrize("lowercase", [True, False])
def test_transformers_and_our_tokenizer_read_it_alike(sets: list[Path], tmp_path: Path, lowercase: bool) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    made = train_vocabulary(sets, tmp_path / "v", vocab_size=4000, lowercase=lowercase)
    words = (tmp_path / "v/vocab.txt").read_text(encoding="utf-8").splitlines()
    assert len(words) == len(set(words)) == made.tokens <= 4000
    assert words[:5] == list(SPECIAL)
    assert any(len(word) > 6 and word.isascii() and word.islower() for word in words), "pieces were merged"
    assert any(word[0].isupper() for word in words[5:]) != lowercase
    assert not [word for word in words if len(word) > 1 and any("\u4e00" <= one <= "\u9fff" for one in word)]
    rows = list(bgeprep.open(sets[0]))
    texts = [*TEXTS, *(row["text"] for row in rows[:50])]
    theirs = AutoTokenizer.from_pretrained(tmp_path / "v")
    plain = Tokenizer.from_file(str(tmp_path / "v/tokenizer.json"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", bgeprep.SlowTokenizerWarning)
        ours = bgeprep.Tokenizer(tmp_path / "v")
    assert ours.engine == "wordpiece"
    for text in texts:
        ids = plain.encode(text).ids
        assert theirs(text)["input_ids"] == ids
        assert ours.encode([text])[0].tolist() == ids
    unknown = np.mean([one == 1 for text in texts[5:] for one in plain.encode(text).ids])
    assert unknown < 0.01
    assert theirs.model_max_length == 512
    assert (theirs.cls_token_id, theirs.sep_token_id, theirs.pad_token_id, theirs.mask_token_id) == (2, 3, 0, 4)


def test_a_model_starts_from_it_by_the_seed(sets: list[Path], tmp_path: Path) -> None:
    import torch

    flags = ["--vocab_size", "1000", "--model_config", "tiny", "--num_hidden_layers", "1", "--cased"]
    command = ["vocab", "--data", str(sets[0]), "--output_dir", str(tmp_path / "v"), *flags]
    assert main(command) == 0
    assert json.loads((tmp_path / "v/config.json").read_text(encoding="utf-8"))["num_hidden_layers"] == 1
    vectors = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        vectors.append(Encoder.load(tmp_path / "v", random_init=True).encode(TEXTS))
    assert np.array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[0], vectors[2])


def test_what_cannot_work_says_so(sets: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["vocab", "--data", str(sets[0]), "--output_dir", str(tmp_path / "v"), "--vocab_size", "500"]
    for flags, code, said in [
        (["--vocab_size", "5"], 2, "vocab_size: expected 100"),
        (["--model_config", "tiny", "--num_attention_heads", "3"], 2, "does not divide"),
        (["--hidden_size", "64"], 2, "num_hidden_layers: missing"),
        ([], 0, ""),
        ([], 1, "--overwrite"),
        (["--overwrite"], 0, ""),
    ]:
        assert main([*command, *flags]) == code
        assert said in capsys.readouterr().err
    (tmp_path / "v/model.safetensors").write_bytes(b"")
    assert main([*command, "--overwrite"]) == 1
    assert "holds a model" in capsys.readouterr().err
    assert main([*command[:2], str(tmp_path), *command[3:]]) == 1
