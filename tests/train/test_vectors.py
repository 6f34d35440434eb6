"""Vectors on disk: those of sentence-transformers, the same bytes by any number of ranks, after a kill too."""

from __future__ import annotations

import json
import multiprocessing
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import torch

from bgetrain.__main__ import main
from bgetrain.ahead import ahead
from bgetrain.embed import embed_rows, model_hash
from bgetrain.encode import Encoder
from bgetrain.errors import ModelError
from bgetrain.gather import Ranks
from bgetrain.model_folder import installed_demo_model
from bgetrain.padding import TokenRows
from bgetrain.resumable import PartsError
from bgetrain.texts import TextList
from bgetrain.vectors import encode_texts, open_vectors
from tests.train.tiny import tiny_encoder
from tests.train.vector_workers import encode, run_rank, some_texts

if TYPE_CHECKING:
    from pathlib import Path


SMALL: Any = {"part_rows": 8, "batch_tokens": 64}


@pytest.fixture(scope="module")
def whole(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What nothing stopped, made by one process."""
    return encode(str(tiny_bert), tmp_path_factory.mktemp("whole") / "out").path


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_real_texts_get_the_vectors_of_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = [
        "What is (are) Zellweger syndrome?",
        "",
        "肝细胞癌是最常见的原发性肝癌。",
        "Insulin " * 300,
        "naïve façade, ﬁne ligatures\tand tabs",
        "a",
        "Wilson disease is a rare inherited disorder in which copper builds up in the liver, the brain and the eyes.",
    ]
    model = str(installed_demo_model())
    found = encode_texts(Encoder.load(model), TextList(texts), tmp_path / "v", prompt="find: ", max_length=128)
    theirs = SentenceTransformer(model, device="cpu")
    theirs.max_seq_length = 128
    expected = theirs.encode(texts, prompt="find: ")
    assert np.abs(found.rows_at(np.arange(len(texts))) - expected).max() < 1e-5
    assert np.abs(expected - theirs.encode(texts)).max() > 1e-3, "the control: another prompt must show"


def test_what_is_written_opens_in_numpy_and_polars(whole: Path, tiny_bert: Path) -> None:
    found = open_vectors(whole)
    texts = [text for _, text in some_texts()]
    expected = Encoder.load(tiny_bert).encode(texts, instruction="w3 ")
    assert (len(found), found.dim) == (70, 16)
    assert np.allclose(found.rows_at(np.arange(70)), expected, atol=1e-6)
    assert found.keys().tolist() == [f"t{place}" for place in range(70)]
    starts = [(first, len(part), part.dtype) for first, part in found.parts()]
    assert starts == [(first, min(8, 70 - first), np.float32) for first in range(0, 70, 8)]
    places = np.array([69, 3, 3, 17, 8, 7])
    assert np.array_equal(found.rows_at(places), found.rows_at(np.arange(70))[places])
    assert found.rows_at(np.zeros(0, dtype=np.int64)).shape == (0, 16)
    with pytest.raises(IndexError):
        found.rows_at(np.array([70]))
    mapped = np.load(whole / "part-00001.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, found.rows_at(np.arange(8, 16)))
    assert pl.read_parquet(whole / "part-00001.parquet")["key"].to_list() == [f"t{place}" for place in range(8, 16)]


@pytest.mark.timeout(120)
def test_killed_twice_and_gone_on_with_by_more_ranks_gives_the_same_bytes(
    whole: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    """One process is killed after 3 parts, then both of two after one part each; a third run of two ends it."""
    # one server imports torch once and forks the ranks from there
    multiprocessing.set_forkserver_preload(["tests.train.vector_workers", "transformers.models.bert.modeling_bert"])
    for world_size, killed_after, parts in ((1, 24, 3), (2, 8, 5), (2, None, 9)):
        (tmp_path / "meet").unlink(missing_ok=True)
        arguments = (world_size, str(tmp_path), str(tiny_bert), killed_after)
        ranks = torch.multiprocessing.start_processes(
            run_rank, arguments, nprocs=world_size, join=False, start_method="forkserver"
        )
        for process in ranks.processes:
            process.join(60)
        # a rank that the kill of the other reaches first ends by itself
        ended = {process.exitcode for process in ranks.processes}
        assert ended == {0} if killed_after is None else -signal.SIGKILL in ended
        there = len(list((tmp_path / "out").glob("part-*.npy")))
        assert there == parts or (world_size == 2 and killed_after and 4 <= there <= parts)
        assert (tmp_path / "out" / "manifest.json").exists() == (killed_after is None)
        if killed_after is not None:
            with pytest.raises(PartsError, match="not complete"):
                open_vectors(tmp_path / "out")
    assert _bytes(tmp_path / "out") == _bytes(whole)


def test_a_second_run_embeds_nothing_and_another_model_is_refused(
    whole: Path, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = encode(str(tiny_bert), tmp_path / "out").path

    def touched(*_: object, **__: object) -> None:
        raise AssertionError("embedded again")

    with monkeypatch.context() as watched:
        watched.setattr(Encoder, "forward_rows", touched)
        assert len(encode(str(tiny_bert), out)) == 70

        encoder = Encoder.load(tiny_bert)
        common: dict[str, Any] = {"part_rows": 8, "prompt": "w3 "}
        for wrong, message in (
            ({"prompt": "w4 "}, r'prompt "w3 ", not "w4 "$'),
            ({"max_length": 9}, "max_length 32, not 9"),
            ({"dtype": "float16"}, "dtype"),
        ):
            with pytest.raises(PartsError, match=message) as caught:
                encode_texts(encoder, some_texts(), out, **(common | wrong))
            assert "--overwrite" in caught.value.hint
        with pytest.raises(PartsError, match="texts"):
            encode_texts(encoder, some_texts(69), out, **common)
        other = Encoder.load(tiny_bert, pooling="mean")
        with pytest.raises(PartsError, match="model"):
            encode_texts(other, some_texts(), out, **common)
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("years of work")
        with pytest.raises(PartsError, match="is not empty and holds no vectors"):
            encode_texts(encoder, some_texts(), tmp_path / "mine", overwrite=True)
    assert _bytes(out) == _bytes(whole)
    other_vectors = encode_texts(other, some_texts(), out, overwrite=True, batch_tokens=64, **common)
    assert not np.allclose(other_vectors.rows_at(np.arange(70)), open_vectors(whole).rows_at(np.arange(70)), atol=1e-3)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_damage_is_seen(whole: Path, tiny_bert: Path, tmp_path: Path) -> None:
    out = encode(str(tiny_bert), tmp_path / "out").path
    part = out / "part-00002.npy"
    content = part.read_bytes()
    part.write_bytes(content[:-1])
    with pytest.raises(PartsError, match=r"part-00002\.npy: expected \d+ bytes, found \d+") as caught:
        encode(str(tiny_bert), out)
    assert "remove manifest.json" in caught.value.hint
    part.unlink()
    with pytest.raises(PartsError, match="no such file"):
        open_vectors(out)
    (out / "manifest.json").unlink()
    (out / "begun.json").write_text("{")
    with pytest.raises(PartsError, match=r"begun\.json: damaged"):
        encode(str(tiny_bert), out)
    with pytest.raises(PartsError, match="holds no vectors"):
        open_vectors(tmp_path)


def test_two_runs_do_not_write_into_one_folder(tiny_bert: Path, tmp_path: Path) -> None:
    def second(done: int, total: int) -> None:
        if done == 8:
            with pytest.raises(PartsError, match="another run is making vectors there"):
                encode(str(tiny_bert), tmp_path)
            seen.append(done)

    seen: list[int] = []
    encode_texts(Encoder.load(tiny_bert), some_texts(), tmp_path, part_rows=8, progress=second)
    assert seen == [8]
    assert not (tmp_path / ".lock").exists()


def test_texts_of_one_part_are_read_at_a_time(tiny_bert: Path, tmp_path: Path) -> None:
    class Watched(TextList):
        read_so_far = 0

        def read(self, ranges: Any) -> Any:
            for item in super().read(ranges):
                self.read_so_far += 1
                yield item

    texts = Watched([text for _, text in some_texts()])
    seen: list[tuple[int, int]] = []
    encode_texts(
        Encoder.load(tiny_bert),
        texts,
        tmp_path,
        part_rows=8,
        progress=lambda done, total: seen.append((done, texts.read_so_far)),
    )
    assert seen == [(done, done) for done in (*range(0, 70, 8), 70)]


def test_ctrl_c_leaves_what_is_done(
    whole: Path, tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_texts(Encoder.load(tiny_bert), some_texts(), tmp_path, prompt="w3 ", progress=interrupt, **SMALL)
    assert "the same command goes on" in capsys.readouterr().err
    assert len(list(tmp_path.glob("part-*.npy"))) == 2
    assert _bytes(encode(str(tiny_bert), tmp_path).path) == _bytes(whole)


def test_float16_is_close_and_half_as_large(whole: Path, tiny_bert: Path, tmp_path: Path) -> None:
    found = encode_texts(Encoder.load(tiny_bert), some_texts(), tmp_path, prompt="w3 ", dtype="float16")
    exact = open_vectors(whole).rows_at(np.arange(70))
    assert next(found.parts())[1].dtype == np.float16
    assert np.abs((found.rows_at(np.arange(70)) * exact).sum(1) - 1).max() < 1e-3


def test_vectors_that_are_no_numbers_end_the_run(tiny_bert: Path, tmp_path: Path) -> None:
    encoder = Encoder.load(tiny_bert, normalize=False)
    with torch.no_grad():
        encoder.backbone.get_parameter("encoder.layer.1.output.LayerNorm.bias")[3] = 1e6
    with pytest.raises(ModelError, match="not finite") as caught:
        encode_texts(encoder, some_texts(), tmp_path / "half", dtype="float16")
    assert "float32 holds larger numbers" in caught.value.hint
    with torch.no_grad():
        encoder.backbone.get_parameter("embeddings.word_embeddings.weight")[8] = float("nan")
    with pytest.raises(ModelError, match=r"texts: texts 0 to 69: .* not finite") as caught:
        encode_texts(encoder, some_texts(), tmp_path / "out")
    assert "damaged" in caught.value.hint
    assert not list((tmp_path / "out").glob("part-*"))


def test_a_text_without_tokens_is_like_nothing() -> None:
    encoder = tiny_encoder(dtype=torch.float32, pooling="mean")
    rows = TokenRows.from_lists([[2, 7, 3], [], [2, 9, 8, 3], []])
    vectors = embed_rows(encoder, rows, batch_tokens=8)
    assert np.abs(vectors[[1, 3]]).max() == 0
    assert np.allclose(np.linalg.norm(vectors[[0, 2]], axis=1), 1)
    assert encoder.training, "the encoder is left in the mode it was in"
    assert embed_rows(encoder, TokenRows.from_lists([])).shape == (0, 16)


def test_half_precision_is_near_and_its_own_work(tiny_bert: Path, tmp_path: Path) -> None:
    encoder = Encoder.load(tiny_bert)
    exact = encode_texts(encoder, some_texts(), tmp_path / "exact").rows_at(np.arange(70))
    half = encode_texts(encoder, some_texts(), tmp_path / "half", precision="bf16").rows_at(np.arange(70))
    assert 1e-6 < np.abs(half - exact).max() < 0.1
    with pytest.raises(PartsError, match='precision "fp32", not "bf16"'):
        encode_texts(encoder, some_texts(), tmp_path / "exact", precision="bf16")


def test_the_hash_of_a_model_is_that_of_what_it_computes(tiny_bert: Path, tmp_path: Path) -> None:
    import shutil

    first = model_hash(Encoder.load(tiny_bert))
    moved = Encoder.load(shutil.copytree(tiny_bert, tmp_path / "moved"), query_instruction="find: ")
    moved.encode(["w1 w2"], max_length=3)
    assert model_hash(moved) == first
    with torch.no_grad():
        moved.backbone.get_parameter("pooler.dense.bias")[0] += 1
    assert model_hash(moved) == first, "no vector needs the pooler head"
    with torch.no_grad():
        moved.backbone.get_parameter("embeddings.word_embeddings.weight")[9, 0] += 1e-3
    assert model_hash(moved) != first
    assert model_hash(Encoder.load(tiny_bert, normalize=False)) != first
    assert model_hash(Encoder.load(tiny_bert, pooling="mean")) != first


def test_what_is_made_ahead_is_the_same() -> None:
    assert list(ahead(iter(range(1, 5)))) == [1, 2, 3, 4]
    assert list(ahead(iter([]))) == []

    def broken() -> Any:
        yield 1
        raise OSError("gone")

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(OSError, match="gone"):
        next(items)


def test_the_first_process_speaks_for_all(tmp_path: Path, tiny_bert: Path) -> None:
    """What cannot begin is said once, by the rank that writes."""
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        encode_texts(Encoder.load(tiny_bert), some_texts(), tmp_path / "file" / "out", ranks=Ranks())


def test_the_command(tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts.jsonl").write_text('{"_id": "a", "text": "w1 w2"}\n{"_id": "b", "title": "w3", "text": "w4"}\n')
    words = ["encode", "--model", str(tiny_bert), "--data", str(tmp_path / "texts.jsonl"), "--out", str(tmp_path / "v")]
    words.append("--use_cpu")
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["passages"]
    assert (said["rows"], said["dim"], said["embedded"]) == (2, 16, 2)
    assert open_vectors(said["path"]).keys().tolist() == ["a", "b"]
    expected = Encoder.load(tiny_bert).encode(["w1 w2", "w3 w4"])
    assert np.allclose(open_vectors(said["path"]).rows_at(np.arange(2)), expected, atol=1e-6)
    assert main(words) == 0
    assert "all there already" in capsys.readouterr().out
    assert main([*words, "--pooling", "mean"]) == 1
    assert "error: " in (said_error := capsys.readouterr().err)
    assert "hint: --overwrite" in said_error
    assert main([*words, "--role", "queries", "--query_instruction_for_retrieval", "w9 ", "--quiet"]) == 0
    assert open_vectors(tmp_path / "v" / "queries").manifest["prompt"] == "w9 "
    with pytest.raises(SystemExit) as ended:
        main([*words, "--unknown"])
    assert ended.value.code == 2


@pytest.mark.parametrize("verb", ["encode", "cluster", "score"])
def test_help_teaches(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert f"  bgetrain {verb} --" in capsys.readouterr().out


def test_the_instruction_of_the_model_stands_before_queries_alone(tmp_path: Path) -> None:
    from bgetrain.export import save_pretrained

    encoder = tiny_encoder(dtype=torch.float32, pooling="mean")
    encoder.query_instruction = "w9 "
    save_pretrained(encoder, tmp_path / "model", recipe={})
    (tmp_path / "data").mkdir()
    for name in ("queries", "corpus"):
        (tmp_path / "data" / f"{name}.jsonl").write_text('{"_id": "a", "text": "w1 w2"}\n')
    words = ["encode", "--model", str(tmp_path / "model"), "--data", str(tmp_path / "data"), "--use_cpu", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "v")]) == 0
    for role, text in (("queries", "w9 w1 w2"), ("passages", "w1 w2")):
        found = open_vectors(tmp_path / "v" / role).rows_at(np.arange(1))
        assert np.allclose(found, encoder.encode([text]), atol=1e-6), role
