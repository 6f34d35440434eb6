"""RetroMAE masks the slow way: one Python list at a time, every rule as the reference states it.

The draws come from the same frozen stream (SplitMix64, keyed by use, seed, epoch and block), written down here a
second time from its definition, so that results can be compared bit by bit. Nothing is borrowed from the package.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

WORD_START, SPECIAL = 1, 2
ENCODER_MASK, CORRUPTION, DECODER_MASKS, ROW_CHOICE = 33, 34, 35, 36

_LOW = (1 << 64) - 1
_GOLDEN = 0x9E37_79B9_7F4A_7C15


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58_476D_1CE4_E5B9) & _LOW
    value = ((value ^ (value >> 27)) * 0x94D0_49BB_1331_11EB) & _LOW
    return value ^ (value >> 31)


class Draws:
    """A SplitMix64 stream for one use."""

    def __init__(self, use: int, *key: int) -> None:
        self._state = _mix(use)
        for part in key:
            self._state = _mix(((self._state + _GOLDEN) & _LOW) ^ _mix(part))

    def below(self, bound: int) -> int:
        self._state = (self._state + _GOLDEN) & _LOW
        return (_mix(self._state) * bound) >> 64

    def orders(self, items: list[Any]) -> Iterator[Iterator[Any]]:
        """Random orders of `items`, each shuffled on from where the one before was left."""
        while True:
            yield self._order(items)

    def _order(self, items: list[Any]) -> Iterator[Any]:
        for place in range(len(items)):
            other = place + self.below(len(items) - place)
            items[place], items[other] = items[other], items[place]
            yield items[place]


def words(flags: Sequence[int], *, specials: bool) -> list[list[int]]:
    """Positions of each word; special tokens behind the first are words of their own if `specials`."""
    found: list[list[int]] = []
    for position, flag in enumerate(flags):
        if flag & SPECIAL:
            if specials and position > 0:
                found.append([position])
        elif flag & WORD_START or flags[position - 1] & SPECIAL:
            found.append([position])
        else:
            found[-1].append(position)
    return [part for word in found for part in ([word] if len(word) <= 16 else [[at] for at in word])]


def whole_word_mask(order: Iterator[list[int]], target: int) -> set[int]:
    """Takes words in order up to the target; one that would overshoot is skipped."""
    masked: set[int] = set()
    for word in order:
        if len(masked) + len(word) <= target:
            masked.update(word)
        if len(masked) == target:
            break
    return masked


def retromae(
    ids: Sequence[int],
    flags: Sequence[int],
    *,
    key: tuple[int, int, int],
    mask_id: int,
    ordinary: Sequence[int],
    encoder: float = 0.3,
    decoder: float = 0.5,
    base_masks: int | None = 128,
    sep_visible: bool = True,
    count: str = "tokens",
) -> dict[str, Any]:
    """Corrupted ids, masked positions with labels, and the full matrix of what each decoder row sees.

    Args:
        ids: tokens of the text.
        flags: their flags.
        key: seed, epoch and block id.
        mask_id: the mask token.
        ordinary: all ids that are not special, rising.
        encoder: share hidden from the encoder.
        decoder: share hidden from a decoder row.
        base_masks: decoder masks, None for one a row.
        sep_visible: as in `TextMasker`.
        count: as in `TextMasker`.
    """

    def target(share: float, candidates: list[list[int]]) -> int:
        return max(1, round((len(ids) if count == "tokens" else sum(map(len, candidates))) * share))

    own = words(flags, specials=False)
    wanted = target(encoder, own)
    positions = sorted(whole_word_mask(next(Draws(ENCODER_MASK, *key).orders(own)), wanted))
    corrupted, noise = list(ids), Draws(CORRUPTION, *key)
    for position in positions:
        lot = noise.below(10)
        if lot < 8:
            corrupted[position] = mask_id
        elif lot == 8:
            corrupted[position] = ordinary[noise.below(len(ordinary))]

    candidates = words(flags, specials=not sep_visible)
    wanted = target(decoder, candidates)
    orders = Draws(DECODER_MASKS, *key).orders(candidates)
    length = len(ids)
    hidden = [whole_word_mask(next(orders), wanted) for _ in range(min(length, base_masks or length))]
    choice = Draws(ROW_CHOICE, *key)
    rows = [row if base_masks is None else choice.below(len(hidden)) for row in range(length)]
    visible = [[column != row and column not in hidden[rows[row]] for column in range(length)] for row in range(length)]
    return {"corrupted": corrupted, "positions": positions, "labels": [ids[at] for at in positions], "visible": visible}
