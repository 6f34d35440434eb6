"""What `metrics.jsonl` says of a window of steps; one class for pairs, one for texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

__all__ = ["PairRecord", "Record", "SourceLoss", "TextRecord"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceLoss:
    """What a window says of one source.

    Attributes:
        loss: mean over its rows.
        rows: its queries, or blocks of text.
    """

    loss: float
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Record(ABC):
    """One line of `metrics.jsonl`; means are over the steps since the last record and over all ranks.

    A row is a query, or a block of text.

    Attributes:
        step: optimiser steps done.
        epoch: pass over the data, from 0.
        loss: what is minimised.
        learning_rate: of the last step.
        grad_norm: mean over steps, before clipping.
        tokens_per_second: without padding, over all ranks.
        padding_share: padding among the tokens computed.
        data_wait_share: part of the time spent waiting for batches.
        rows: rows of the window.
        source: source of the last batch; None where it mixes several.
        sources: loss and rows of each source of the window.
        tflops: 10¹² model FLOPs a second and process.
        mfu: model FLOPs as a share of what the devices can do in bf16; None where that is not known.
        hfu: the same for the FLOPs done, padding and recomputation included.
        peak_memory: most bytes a process held: of the device in the window, or of the process since its start on a CPU.
        seconds: length of the window.
        steps: optimiser steps in the window.
        skipped: those of them that were not taken, since the gradient overflowed fp16.
        bad_step: first step whose loss or gradient is not a number; None where all are numbers.
        bad_sources: sources of the rows whose loss is not a number there; where only the gradient is none, those
            of the step.
    """

    step: int
    epoch: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens_per_second: float
    padding_share: float
    data_wait_share: float
    rows: int
    source: str | None
    sources: dict[str, SourceLoss]
    tflops: float
    mfu: float | None
    hfu: float | None
    peak_memory: int
    seconds: float
    steps: int
    skipped: int
    bad_step: int | None
    bad_sources: tuple[str, ...]

    @classmethod
    @abstractmethod
    def of(cls, shared: Mapping[str, Any], sums: Mapping[str, float]) -> Self:
        """Makes the record.

        Args:
            shared: the attributes of `Record`; `loss` is the mean over rows.
            sums: what the learner counted, over the window and all ranks.
        """

    @abstractmethod
    def speed(self) -> str:
        """Rows a second, as the terminal shows them."""

    @abstractmethod
    def details(self) -> list[str]:
        """What the terminal shows besides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRecord(Record):
    """What contrastive training says besides.

    Attributes:
        pairs_per_second: queries over all ranks.
        effective_negatives: documents a query was scored against, without its own positive.
        masked: documents left out, over all queries, because they are a known positive or the query itself.
        repeated: documents left out, over all queries, because the batch holds them twice.
        likely_share: share of the remaining negatives left out because they score like positives.
        flat_share: share of the queries with negatives whose scores are all one.
        taught: queries that a teacher taught; None without distillation.
    """

    pairs_per_second: float
    effective_negatives: float
    masked: int
    repeated: int
    likely_share: float
    flat_share: float
    taught: int | None

    @classmethod
    def of(cls, shared: Mapping[str, Any], sums: Mapping[str, float]) -> Self:
        """From the sums of `objective.BatchResult.counts`."""
        return cls(
            **shared,
            pairs_per_second=shared["rows"] / shared["seconds"],
            effective_negatives=sums["negatives"] / max(1, shared["rows"]),
            masked=int(sums["masked"]),
            repeated=int(sums["repeated"]),
            likely_share=sums["likely"] / max(1.0, sums["likely"] + sums["negatives"]),
            flat_share=sums["flat"] / max(1.0, sums["with_negatives"]),
            taught=int(sums["taught"]) if "taught" in sums else None,
        )

    def speed(self) -> str:
        """Pairs a second."""
        return f"{self.pairs_per_second:,.0f} pairs/s"

    def details(self) -> list[str]:
        """Negatives, and what was left out."""
        return [
            f"negatives {self.effective_negatives:.1f}",
            f"masked {self.masked}",
            *([f"likely {self.likely_share:.2%}"] if self.likely_share else []),
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRecord(Record):
    """What pre-training says besides; a figure of a part that is not trained is None.

    Attributes:
        texts_per_second: blocks over all ranks.
        encoder_loss: mean over masked tokens.
        encoder_accuracy: share of the masked tokens that the encoder finds.
        decoder_loss: mean over the tokens that the decoder predicts.
        decoder_accuracy: share of them that it finds.
        bow_loss: mean over blocks of the bag-of-words term, before its weight.
    """

    texts_per_second: float
    encoder_loss: float
    encoder_accuracy: float
    decoder_loss: float | None
    decoder_accuracy: float | None
    bow_loss: float | None

    @classmethod
    def of(cls, shared: Mapping[str, Any], sums: Mapping[str, float]) -> Self:
        """From the sums of `retromae.objective.TextResult.counts`; the loss is that which is minimised."""

        def mean(name: str, of: str) -> float | None:
            return sums[name] / max(1.0, sums[of]) if name in sums else None

        encoder, accuracy = mean("encoder_loss", "encoder_labels"), mean("encoder_found", "encoder_labels")
        assert encoder is not None
        assert accuracy is not None
        decoder, words = mean("decoder_loss", "decoder_labels"), mean("bow_weighted", "texts")
        return cls(
            **{**shared, "loss": encoder + (decoder or 0.0) + (words or 0.0)},
            texts_per_second=shared["rows"] / shared["seconds"],
            encoder_loss=encoder,
            encoder_accuracy=accuracy,
            decoder_loss=decoder,
            decoder_accuracy=mean("decoder_found", "decoder_labels"),
            bow_loss=mean("bow_loss", "texts"),
        )

    def speed(self) -> str:
        """Blocks a second."""
        return f"{self.texts_per_second:,.1f} texts/s"

    def details(self) -> list[str]:
        """Loss and accuracy of each part."""
        parts = [f"encoder {self.encoder_loss:.3f} ({self.encoder_accuracy:.0%} found)"]
        if self.decoder_loss is not None and self.decoder_accuracy is not None:
            parts.append(f"decoder {self.decoder_loss:.3f} ({self.decoder_accuracy:.0%})")
        if self.bow_loss is not None:
            parts.append(f"words {self.bow_loss:.3f}")
        return parts
