"""RetroMAE masks: bit for bit against a slow reference, and their rates against what chance allows."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from bgeprep import ConfigError, MaskedTexts, TextMasker, TokenizerError
from tests.reference import mask as reference

SETTINGS: list[dict[str, Any]] = [
    {},
    {"base_masks": "fresh", "mask_count": "maskable"},
    {"base_masks": 5, "sep_visible": False, "encoder_mlm_probability": 0.15, "decoder_mlm_probability": 0.7},
]


@pytest.fixture(params=["word_piece", "sentence_piece"])
def tokenizer(request: pytest.FixtureRequest) -> Path:
    """Both tokenizers, one after the other."""
    folder: Path = request.getfixturevalue(request.param)
    return folder


def _special(tokenizer: Path) -> dict[str, int]:
    added = Tokenizer.from_file(str(tokenizer / "tokenizer.json")).get_added_tokens_decoder()
    return {token.content: number for number, token in added.items() if token.special}


def _part(masked: MaskedTexts, text: int) -> slice:
    return slice(int(masked.offsets[text]), int(masked.offsets[text + 1]))


@pytest.mark.parametrize("settings", SETTINGS, ids=["bge", "paper", "few"])
def test_equal_to_the_reference(tokenizer: Path, documents: list[dict[str, str]], settings: dict[str, Any]) -> None:
    texts = [document["text"] for document in documents[::40]] + ["a", "。"]
    masker = TextMasker(tokenizer, max_seq_length=64, seed=11, **settings)
    masked = masker.mask(texts, block_ids=[100 + 3 * number for number in range(len(texts))], epoch=2)
    vocabulary = Tokenizer.from_file(str(tokenizer / "tokenizer.json")).get_vocab_size()
    special = _special(tokenizer)
    options = {"encoder_mlm_probability": "encoder", "decoder_mlm_probability": "decoder", "mask_count": "count"}
    given = {options.get(name, name): value for name, value in settings.items()}
    if given.get("base_masks") == "fresh":
        given["base_masks"] = None
    for text in range(len(texts)):
        part = _part(masked, text)
        expected = reference.retromae(
            masked.input_ids[part].tolist(),
            masked.flags[part].tolist(),
            key=(11, 2, 100 + 3 * text),
            mask_id=special.get("[MASK]", special.get("<mask>", -1)),
            ordinary=[number for number in range(vocabulary) if number not in special.values()],
            **given,
        )
        own = slice(int(masked.mask_offsets[text]), int(masked.mask_offsets[text + 1]))
        assert masked.corrupted_ids[part].tolist() == expected["corrupted"]
        assert (masked.mask_positions[own] - part.start).tolist() == expected["positions"]
        assert masked.labels[own].tolist() == expected["labels"]
        assert masked.visible(text).tolist() == expected["visible"]


def test_the_tokens_are_the_tokenizers(tokenizer: Path, documents: list[dict[str, str]]) -> None:
    masked = TextMasker(tokenizer, max_seq_length=512).mask([document["text"] for document in documents])
    theirs = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    theirs.enable_truncation(512)
    named = set(_special(tokenizer).values())
    for text, document in enumerate(documents):
        encoding = theirs.encode(document["text"])
        part = _part(masked, text)
        assert masked.input_ids[part].tolist() == encoding.ids
        special = (masked.flags[part] & reference.SPECIAL) != 0
        assert special.tolist() == [
            bool(added) or number in named
            for added, number in zip(encoding.special_tokens_mask, encoding.ids, strict=True)
        ]
        starts = (masked.flags[part] & reference.WORD_START) != 0
        words = [None, *encoding.word_ids]
        expected = [word is not None and word != before for before, word in itertools.pairwise(words)]
        assert (starts & ~special).tolist() == (np.array(expected) & ~special).tolist()


@pytest.mark.parametrize("sep_visible", [True, False])
@pytest.mark.parametrize("base_masks", [128, 3, "fresh"])
def test_who_sees_the_special_tokens(tokenizer: Path, sep_visible: bool, base_masks: Any) -> None:
    texts = ["one two three four five six seven eight nine ten", "磁铁为什么会吸引铁和其他的金属呢", "a"]
    masked = TextMasker(tokenizer, base_masks=base_masks, sep_visible=sep_visible).mask(texts)
    for text in range(len(texts)):
        seen = masked.visible(text)
        assert seen[1:, 0].all(), "position 0 is seen by all rows but its own"
        assert not seen.diagonal().any()
        assert seen[:-1, -1].all() or not sep_visible
    unseen = [not masked.visible(text)[:-1, -1].all() for text in range(len(texts))]
    assert any(unseen) is not sep_visible


def _within(hits: float, draws: float, share: float, spread: float = 1.0) -> None:
    """Five deviations of a binomial rate; `spread` tokens are drawn together."""
    deviation = math.sqrt(share * (1 - share) * spread / draws)
    assert abs(hits / draws - share) < 5 * deviation + 1 / draws, f"{hits / draws} for {share} ± {deviation}"


@pytest.mark.parametrize("length", [12, 48, 256])
@pytest.mark.parametrize("mask_count", ["tokens", "maskable"])
def test_rates_by_length(word_piece: Path, length: int, mask_count: Any) -> None:
    """Words of one token, so that every count can be met exactly."""
    text = " ".join("aeiou"[place % 5] for place in range(length - 2))
    copies = 40
    masked = TextMasker(word_piece, mask_count=mask_count, seed=3).mask([text] * copies)
    assert len(masked.input_ids) == copies * length
    of = length if mask_count == "tokens" else length - 2
    assert np.diff(masked.mask_offsets).tolist() == [max(1, round(of * 0.3))] * copies
    hidden = max(1, round(of * 0.5))
    for text_number in range(copies):
        base = masked.base_masks(text_number)
        assert base.shape == (min(length, 128), length)
        assert ((~base).sum(axis=1) == hidden).all()
        _within(
            masked.visible(text_number)[1:, 1:-1].sum(), (length - 2) ** 2, 1 - hidden / (length - 2), spread=length
        )
    # Each position is hidden as often as any other, and rows draw from all masks.
    places = np.mean([masked.base_masks(number).mean(axis=0) for number in range(copies)], axis=0)[1:-1]
    _within(places.max(), 1, 1 - hidden / (length - 2), spread=1 / (copies * min(length, 128)))
    _within(places.min(), 1, 1 - hidden / (length - 2), spread=1 / (copies * min(length, 128)))
    counts = np.bincount(masked.choices, minlength=min(length, 128))
    assert len(counts) == min(length, 128)
    assert counts.min() > 0


def test_eight_one_one(word_piece: Path, documents: list[dict[str, str]]) -> None:
    masked = TextMasker(word_piece, base_masks=1, encoder_mlm_probability=0.5).mask(
        [one["text"] for one in documents] * 4
    )
    found, total = masked.corrupted_ids[masked.mask_positions], len(masked.labels)
    assert total > 50_000
    is_mask, same = found == 4, found == masked.labels
    _within(is_mask.sum(), total, 0.8)
    _within(same.sum(), total, 0.1)
    noise = found[~is_mask & ~same]
    _within(len(noise), total, 0.1)
    assert noise.min() > 4, "no special token is drawn"
    assert len(np.unique(noise)) > 1000
    untouched = np.ones(len(masked.input_ids), dtype=bool)
    untouched[masked.mask_positions] = False
    assert np.array_equal(masked.corrupted_ids[untouched], masked.input_ids[untouched])


def test_the_rates_would_show_a_skewed_draw() -> None:
    """Negative control: a share that is off by a fiftieth does not pass."""
    with pytest.raises(AssertionError):
        _within(0.82 * 50_000, 50_000, 0.8)


def test_masks_are_keyed_by_seed_epoch_and_block(word_piece: Path, documents: list[dict[str, str]]) -> None:
    texts = [document["text"] for document in documents[:20]]
    masker = TextMasker(word_piece, seed=5)
    together = masker.mask(texts, epoch=1)
    for number in (0, 7, 19):
        alone = masker.mask([texts[number]], block_ids=[number], epoch=1)
        part = _part(together, number)
        assert np.array_equal(alone.corrupted_ids, together.corrupted_ids[part])
        assert np.array_equal(alone.base_bits, together.base_bits[slice(*together.base_offsets[number : number + 2])])
        assert np.array_equal(alone.choices, together.choices[part])
    for other in (
        masker.mask(texts, epoch=2),
        masker.mask(texts, block_ids=range(1, 21), epoch=1),
        TextMasker(word_piece, seed=6).mask(texts, epoch=1),
    ):
        assert not np.array_equal(other.corrupted_ids, together.corrupted_ids)
        assert not np.array_equal(other.base_bits, together.base_bits)
        assert not np.array_equal(other.choices, together.choices)


def test_a_script_without_spaces_is_masked(sentence_piece: Path) -> None:
    """To this tokenizer the text is one word, which as a whole could never be masked."""
    masked = TextMasker(sentence_piece).mask(["磁铁为什么会吸引铁和其他的金属呢因为它的磁场使原子排列整齐" * 2])
    assert len(masked.labels) == round(len(masked.input_ids) * 0.3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"encoder_mlm_probability": 0}, "encoder_mlm_probability"),
        ({"decoder_mlm_probability": 1.5}, "decoder_mlm_probability"),
        ({"base_masks": 0}, "base_masks"),
        ({"base_masks": "all"}, "base_masks"),
        ({"mask_count": "words"}, "mask_count"),
        ({"max_seq_length": 2}, "max_seq_length"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_work_is_refused(word_piece: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"text.{named}: expected"):
        TextMasker(word_piece, **options)


def test_tokenizers_without_a_mask_or_a_first_token_are_refused(word_piece: Path, tmp_path: Path) -> None:
    plain = Tokenizer.from_file(str(word_piece / "tokenizer.json"))
    plain.post_processor = None
    plain.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match="special token"):
        TextMasker(tmp_path)
    text = (word_piece / "tokenizer.json").read_text(encoding="utf-8").replace("[MASK]", "[GAP]")
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(TokenizerError, match="mask token"):
        TextMasker(tmp_path)
