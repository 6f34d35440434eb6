"""Texts end to end: the vectors and gradients of padded texts, and what notices where they would not be."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from bgetrain import packed
from bgetrain.config import ModelConfig, RunConfig, TrainConfig
from bgetrain.encode import Encoder
from bgetrain.errors import ConfigError, ModelError
from bgetrain.export import save_pretrained
from bgetrain.grad_cache import embed_cached
from bgetrain.lora import attach
from bgetrain.padding import TokenRows
from tests.train.tiny import VOCABULARY, tiny_backbone, tiny_encoder, tiny_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = (17, 1, 5, 28, 9, 9, 2, 13)


def _xlm_roberta() -> Any:
    """Positions begin after the padding id, which is 1."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    return XLMRobertaModel(
        XLMRobertaConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=34,
            type_vocab_size=1,
            pad_token_id=1,
            initializer_range=0.3,
        )
    )


def _modernbert() -> Any:
    """Rotary positions, and a window of 3 tokens to each side in every other layer."""
    from transformers import ModernBertConfig, ModernBertModel

    config = ModernBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        local_attention=6,
        global_attn_every_n_layers=2,
        pad_token_id=0,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
        initializer_range=0.3,
    )
    return ModernBertModel(config)


def _grouped() -> Any:
    """Rotary positions and fewer heads of keys than of queries; made bidirectional, as some encoders are."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    return LlamaModel(config)


def _encoder(backbone: Any, dtype: torch.dtype = torch.float64, pooling: Any = "cls") -> Encoder:
    return Encoder(
        backbone.to(dtype), tiny_tokenizer(), pooling=pooling, normalize=True, max_seq_length=32, position_limit=32
    ).eval()


def _rows(lengths: tuple[int, ...] = LENGTHS) -> TokenRows:
    generator = np.random.default_rng(3)
    return TokenRows.from_lists([generator.integers(5, VOCABULARY, length).tolist() for length in lengths])


def _vectors_and_gradients(encoder: Encoder, budget: int = 40) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
    vectors, computed = encoder.embed(_rows(), batch_tokens=budget)
    torch.manual_seed(1)
    (vectors * torch.randn_like(vectors)).sum().backward()
    found = {name: weight.grad for name, weight in encoder.named_parameters() if weight.grad is not None}
    encoder.zero_grad()
    return vectors.detach(), found, computed


def _distance(first: tuple[Any, ...], second: tuple[Any, ...]) -> float:
    assert first[1].keys() == second[1].keys()
    pairs = [(first[0], second[0]), *((first[1][name], second[1][name]) for name in first[1])]
    return max(float((one - other).abs().max()) for one, other in pairs)


BACKBONES = [tiny_backbone, _xlm_roberta, _modernbert]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_packed_is_padded(backbone: Any, pooling: str) -> None:
    # transformers turns ModernBERT's positions in fp32 whatever the model is in
    tolerance = 1e-5 if backbone is _modernbert else 1e-12
    torch.manual_seed(0)
    encoder = _encoder(backbone(), pooling=pooling)
    padded = _vectors_and_gradients(encoder)
    packed.switch_on(encoder)
    found = _vectors_and_gradients(encoder)
    assert _distance(found, padded) < tolerance
    assert found[2] == sum(LENGTHS) < padded[2]
    # a rectangle goes through the same model as before
    encoder.packs = False
    assert _distance(_vectors_and_gradients(encoder), padded) < tolerance


@pytest.mark.parametrize("backbone", BACKBONES)
def test_packed_is_padded_in_fp32_and_close_in_bf16(backbone: Any) -> None:
    torch.manual_seed(0)
    encoder = _encoder(backbone(), torch.float32)
    rows = _rows()
    with torch.no_grad():
        padded, _ = encoder.embed(rows, batch_tokens=40)
        packed.switch_on(encoder)
        exact, _ = encoder.embed(rows, batch_tokens=40)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half, _ = encoder.embed(rows, batch_tokens=40)
    assert torch.allclose(exact, padded, rtol=0, atol=1e-5)
    assert half.dtype == torch.float32
    assert 1e-5 < float((half - padded).abs().max()) < 0.2


def test_positions_that_do_not_begin_anew_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def running_on(rows: TokenRows, chosen: Any, first_position: int) -> packed.Pack:
        made = _PACK(rows, chosen, first_position)
        return replace(made, position_ids=torch.arange(made.input_ids.shape[1])[None])

    monkeypatch.setattr("bgetrain.encode.pack", running_on)
    encoder = tiny_encoder()
    with pytest.raises(ModelError, match="other vectors than padded"):
        packed.switch_on(encoder)
    assert not encoder.packs
    assert encoder.backbone.config._attn_implementation == "sdpa"


def test_positions_that_begin_elsewhere_are_noticed() -> None:
    encoder = _encoder(_xlm_roberta())
    encoder.first_position = 0
    with pytest.raises(ModelError, match="other vectors than padded"):
        packed.switch_on(encoder)


def test_attention_across_texts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def across(query: Any, key: Any, value: Any, starts: Any, longest: int, window: Any) -> Any:
        whole = torch.tensor([0, int(starts[-1])])
        return _ATTEND(query, key, value, whole, int(starts[-1]), window)

    monkeypatch.setattr(packed, "_attend_text_by_text", across)
    encoder = tiny_encoder()
    before = _vectors_and_gradients(encoder)
    with pytest.raises(ModelError, match="other vectors than padded"):
        packed.switch_on(encoder)
    assert _distance(_vectors_and_gradients(encoder), before) < 1e-12


def test_a_window_that_is_left_out_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wide(query: Any, key: Any, value: Any, starts: Any, longest: int, _: Any) -> Any:
        return _ATTEND(query, key, value, starts, longest, None)

    monkeypatch.setattr(packed, "_attend_text_by_text", wide)
    torch.manual_seed(0)
    with pytest.raises(ModelError, match="other vectors than padded"):
        packed.switch_on(_encoder(_modernbert()))


def test_a_decoder_is_refused() -> None:
    """Its tokens see what came before them only, which the packed attention does not do."""
    encoder = _encoder(_grouped())
    with pytest.raises(ModelError, match="other vectors than padded") as caught:
        packed.switch_on(encoder)
    assert caught.value.hint == "--attention sdpa"


def test_a_model_without_replaceable_attention_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = tiny_encoder()
    monkeypatch.setattr(type(encoder.backbone), "set_attn_implementation", lambda *_: None)
    with pytest.raises(ModelError, match="cannot be replaced"):
        packed.switch_on(encoder)


def test_fewer_heads_of_keys_and_another_scale() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 8, 6), torch.randn(1, 2, 8, 6), torch.randn(1, 2, 8, 6)
    starts = torch.tensor([0, 3, 8], dtype=torch.int32)
    found, _ = packed._attention(
        torch.nn.Identity(), query, key, value, None, scaling=0.7, cu_seq_lens_q=starts, max_length_q=5
    )
    for start, end in ((0, 3), (3, 8)):
        own = slice(start, end)
        expected = torch.nn.functional.scaled_dot_product_attention(
            query[:, :, own], key[:, :, own], value[:, :, own], scale=0.7, enable_gqa=True
        )
        assert torch.allclose(found[:, own], expected.transpose(1, 2), atol=1e-6)


@pytest.mark.parametrize("keep", [None, 0, 30])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_grad_cache_over_packed_chunks_is_one_graph(keep: int | None, checkpointing: bool) -> None:
    def gradients(encoder: Encoder, cached: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        torch.manual_seed(4)
        wanted = torch.randn(len(LENGTHS), 16, dtype=torch.float64)
        torch.manual_seed(5)
        if cached:
            made = embed_cached(encoder, _rows(), chunk_tokens=30, keep_tokens=keep)
            assert made.computed == sum(LENGTHS)
            assert (made.replayed > 0) == (keep is not None)
            (made.vectors @ wanted.T).logsumexp(dim=1).sum().backward()
            made.backward()
            vectors = made.vectors.detach()
        else:
            vectors, _ = encoder.embed(_rows(), batch_tokens=30)
            (vectors @ wanted.T).logsumexp(dim=1).sum().backward()
            vectors = vectors.detach()
        return vectors, {n: w.grad for n, w in encoder.named_parameters() if w.grad is not None}

    # dropout outside of attention stays, so that replayed chunks must draw it again
    encoders = [tiny_encoder(dropout=0.2) for _ in range(2)]
    for encoder in encoders:
        packed.switch_on(encoder)
        assert encoder.training
        if checkpointing:
            encoder.checkpoint_activations()
    assert _distance(gradients(encoders[0], cached=True), gradients(encoders[1], cached=False)) < 1e-12


def test_adapters_learn_from_packed_texts() -> None:
    encoder = tiny_encoder(dtype=torch.float32)
    packed.switch_on(encoder)
    attach(encoder, ModelConfig(lora_rank=2, lora_dropout=0.0))
    for name, weight in encoder.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    found = _vectors_and_gradients(encoder)
    encoder.packs = False
    assert found[1]
    assert _distance(found, _vectors_and_gradients(encoder)) < 1e-4


@pytest.mark.parametrize("budget", [1, 7, 64, 10_000])
def test_chunks_hold_every_row_once_and_fill_the_budget(budget: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 200)
    chunks = packed.packed_chunks(lengths, budget)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(200))
    assert all(len(chunk) == 1 or lengths[chunk].sum() <= budget for chunk in chunks)
    assert all(lengths[one].sum() + lengths[two[0]] > budget for one, two in pairwise(chunks))
    in_order = lengths[np.concatenate(chunks)]
    assert (np.diff(in_order) <= 0).all()


def test_chunks_and_passes_agree_on_their_tokens() -> None:
    encoder, rows = tiny_encoder().eval(), _rows()
    for _ in range(2):
        for chunk, tokens in encoder.chunks(rows.lengths, 40):
            assert encoder.forward_rows(rows, chunk)[1] == tokens
        packed.switch_on(encoder)


def test_a_packed_encoder_writes_an_ordinary_model(tmp_path: Path) -> None:
    encoder = tiny_encoder(dtype=torch.float32)
    plain = tiny_encoder(dtype=torch.float32)
    packed.switch_on(encoder)
    for model, name in ((encoder, "packed"), (plain, "plain")):
        save_pretrained(model, tmp_path / name, recipe={})
    assert (tmp_path / "packed" / "config.json").read_text() == (tmp_path / "plain" / "config.json").read_text()
    again = Encoder.load(tmp_path / "packed")
    assert not again.packs
    texts = ["w1", "w2 w3 w4", "w5 w6"]
    assert np.allclose(again.encode(texts), encoder.encode(texts), atol=1e-5)


def test_what_the_kernel_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, wide = torch.device("cuda", 0), _encoder(_modernbert())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    packed.check_kernel(tiny_encoder(), torch.device("cpu"), bf16=False)
    packed.check_kernel(tiny_encoder(), gpu, bf16=True)
    with pytest.raises(ConfigError, match="bfloat16") as caught:
        packed.check_kernel(tiny_encoder(), gpu, bf16=False)
    assert caught.value.hint == "--bf16, or --attention sdpa"
    # as torch 2.10 has it
    monkeypatch.setattr(packed, "_kernel", lambda: lambda query, key, value, starts, ends, longest, most: query)
    packed.check_kernel(tiny_encoder(), gpu, bf16=True)
    with pytest.raises(ModelError, match="window"):
        packed.check_kernel(wide, gpu, bf16=True)
    wide.backbone.config.num_attention_heads = 4
    with pytest.raises(ModelError, match="heads of 8"):
        packed.check_kernel(wide, gpu, bf16=True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(ConfigError, match="Ampere"):
        packed.check_kernel(tiny_encoder(), gpu, bf16=True)


def test_the_kernel_gets_texts_as_it_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the GPU's way but the kernel, which a loop stands in for."""
    seen = []

    def kernel(*args: Any, window_size: tuple[int, int] = (-1, -1)) -> Any:
        query, key, value, starts, ends, longest, most = args
        assert starts is ends
        assert longest == most == int(starts.diff().max())
        assert {part.dtype for part in args[:3]} == {torch.bfloat16}
        assert {part.shape for part in args[:3]} == {(int(starts[-1]), 2, 8)}
        assert starts.dtype == torch.int32
        seen.append(window_size)
        parts = (part.transpose(0, 1)[None] for part in (query, key, value))
        return _ATTEND(*parts, starts, longest, None if window_size[0] < 0 else window_size[0] + 1)[0]

    monkeypatch.setattr(packed, "_kernel", lambda: kernel)
    monkeypatch.setattr(packed, "_attend_text_by_text", packed._attend_on_gpu)
    monkeypatch.setattr(packed, "_TOLERANCE", 0.2)
    for backbone, windows in ((tiny_backbone, {(-1, -1)}), (_modernbert, {(-1, -1), (3, 3)})):
        seen.clear()
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            packed.switch_on(_encoder(backbone(), torch.float32))
        assert set(seen) == windows


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_kernel_itself(backbone: Any) -> None:
    torch.manual_seed(0)
    encoder = _encoder(backbone(), torch.float32, "mean")
    packed.switch_on(encoder)
    encoder.cuda()
    found = []
    for packs in (True, False):
        encoder.packs = packs
        with torch.autocast("cuda", dtype=torch.bfloat16):
            found.append(_vectors_and_gradients(encoder))
    assert found[0][2] == sum(LENGTHS)
    assert float((found[0][0] - found[1][0]).abs().max()) < 0.1
    for name, gradient in found[0][1].items():
        other = found[1][1][name]
        assert float((gradient - other).norm()) < 0.2 * float(other.norm()) + 1e-3, name
    # models are measured in fp32, which the kernel does not take: padded
    encoder.packs = True
    assert encoder.embed(_rows(), batch_tokens=40)[1] > sum(LENGTHS)


def test_the_user_is_told_which_dropout_is_left_out() -> None:
    encoder = tiny_encoder(dropout=0.1)
    assert packed.packing(encoder) == ""
    packed.switch_on(encoder)
    assert "so attention_probs_dropout_prob 0.1 of the model is left out" in packed.packing(encoder)
    without = tiny_encoder()
    packed.switch_on(without)
    assert packed.packing(without) == "texts go packed, without padding\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_compiled_packed_texts_are_the_same() -> None:
    """The graphs that `--torch_compile` finds, run as they are: the places of texts change from chunk to chunk."""
    encoder = tiny_encoder().eval()
    packed.switch_on(encoder)
    expected = [_vectors_and_gradients(encoder, budget) for budget in (40, 25)]
    torch._dynamo.reset()
    encoder.backbone.compile(dynamic=True, backend="eager")
    for budget, known in zip((40, 25), expected, strict=True):
        assert _distance(_vectors_and_gradients(encoder, budget), known) < 1e-12


def test_the_setting() -> None:
    assert TrainConfig().run.attention == "auto"
    with pytest.raises(ConfigError, match="one of auto, sdpa, varlen"):
        RunConfig(attention="flash")


_PACK, _ATTEND = packed.pack, packed._attend_text_by_text
