"""Texts become blocks, and blocks batches: what RetroMAE pre-training reads.

```
TextLoader(shards, tokenizer, batch_size=…)       one per rank, same arguments but `rank`
├── iteration        → TextBatch, this rank's masked blocks of the next global batch
├── plan()           → the global batches themselves, block ids only
├── block(id)        → where a block comes from
├── blocks           → what cutting the documents came to
├── len()            → steps of the whole run
└── state_dict() / load_state_dict()
```

A block is a run of whole sentences of one document that fits in `max_seq_length` tokens. Documents are cut once for
each shard set, tokenizer and length; the index of blocks is kept beside the shards. A global batch is a function of
that index, the seed and the batch size; ranks and threads only decide who masks what.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

from bgeprep._native import TextReader
from bgeprep.batch import default_threads
from bgeprep.mask import MaskedTexts, MaskOptions
from bgeprep.plan import HasPath, check_ranges

__all__ = ["Block", "TextBatch", "TextLoader"]


class Block(NamedTuple):
    """Where a block comes from.

    Attributes:
        row: place of its document in the shard set.
        start: its first byte (UTF-8) in the document, which is title, line break and text, or the text alone where
            there is no title.
        end: the byte behind its last.
        tokens: its tokens without special ones.
    """

    row: int
    start: int
    end: int
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextBatch(MaskedTexts):
    """One rank's blocks of one global batch: the arrays of `MaskedTexts`, longest block first.

    A rank may have no block at all: it takes part in collective operations all the same.

    Attributes:
        step: global batch of the run, from 0.
        epoch: from 0.
        global_blocks: blocks of the global batch over all ranks.
        state_json: `state` as text.
    """

    step: int
    epoch: int
    global_blocks: int
    state_json: str

    @property
    def state(self) -> dict[str, Any]:
        """Where to resume behind this batch: give it to `load_state_dict` or `TextLoader(state=…)`.

        Plain JSON values. `step` counts the batches yielded so far, this one included.
        """
        state: dict[str, Any] = json.loads(self.state_json)
        return state


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    """What `_native.TextReader` reads, attribute by attribute."""

    masks: MaskOptions
    batch_size: int
    num_epochs: int | None
    max_steps: int | None
    rank: int
    world_size: int
    prefetch: int
    threads: int
    blocks: Path


class TextLoader:
    """Iterates over one rank's blocks of a set of texts, tokenised and masked ahead by threads of its own.

    **Blocks.** Sentences of a document are packed in order as long as they fit; a document is never cut off and never
    shares a block with another. A sentence that alone is longer than a block is cut between words. The index of blocks
    is made when the loader is first opened (by one rank of a machine, the others wait) and kept in `<shards>/.blocks`.

    **Order.** An epoch visits every block once, in an order of its own; its last batch is what is left. Ranks get
    blocks of balanced length; counts differ by one at most.

    **Masks** are keyed by seed, epoch and block: other ones in every epoch, the same for any number of ranks.

    **State, threads, fork, Ctrl-C** are as in `BatchLoader`: every `TextBatch` carries the state behind it, resuming
    replays nothing and may use another `world_size`, and other masks.
    """

    def __init__(
        self,
        shards: str | os.PathLike[str] | HasPath,
        tokenizer: str | os.PathLike[str],
        *,
        batch_size: int,
        max_seq_length: int = 512,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 42,
        num_epochs: int | None = 1,
        max_steps: int | None = None,
        encoder_mlm_probability: float = 0.3,
        decoder_mlm_probability: float = 0.5,
        base_masks: int | Literal["fresh"] = 128,
        sep_visible: bool = True,
        mask_count: Literal["tokens", "maskable"] = "tokens",
        prefetch: int = 4,
        threads: int | None = None,
        blocks: str | os.PathLike[str] | None = None,
        report: Callable[..., None] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """Opens the set and its blocks, which are cut now where that was not done before.

        Args:
            shards: folder of a shard set of kind `text`, or an open `ShardSet`.
            tokenizer: a `tokenizer.json`, or a model folder that holds one.
            batch_size: blocks of a **global** batch, over all ranks.
            max_seq_length: tokens of a block with the special ones, at most.
            rank: this rank, from 0.
            world_size: number of ranks.
            seed: decides the order of blocks and every mask.
            num_epochs: epochs of the run; None to go on until `max_steps`.
            max_steps: steps of the run; overrides `num_epochs`.
            encoder_mlm_probability: share of the tokens that the encoder does not see.
            decoder_mlm_probability: share of the tokens that a decoder row does not see, beside itself.
            base_masks: as in `TextMasker`.
            sep_visible: as in `TextMasker`.
            mask_count: as in `TextMasker`.
            prefetch: batches to keep ready or in work.
            threads: masking threads; None for one a core, shared by the ranks of this machine
                (`LOCAL_WORLD_SIZE`), at most 16.
            blocks: where the index of blocks is kept, for shards that cannot be written beside; None for
                `<shards>/.blocks`.
            report: called about ten times a second with the counters of the native run while documents are cut, for a
                progress bar.
            state: where to resume, as `state_dict()` or `TextBatch.state` gave it.

        Raises:
            ConfigError: an option that cannot work, or a state of another shard set, tokenizer, length, version or
                plan; the message names what differs.
            ShardError: the folder holds no complete shard set of texts.
            TokenizerError: no fast tokenizer, one without a mask token, or one that puts no special token before a
                text.
        """
        path = Path(shards if isinstance(shards, str | os.PathLike) else shards.path)
        threads = default_threads() if threads is None else threads
        check_ranges(
            "text",
            batch_size=batch_size,
            num_epochs=num_epochs,
            max_steps=max_steps,
            rank=rank,
            world_size=world_size,
            prefetch=prefetch,
            threads=threads,
        )
        options = _Options(
            masks=MaskOptions.checked(
                tokenizer,
                max_seq_length=max_seq_length,
                seed=seed,
                encoder_mlm_probability=encoder_mlm_probability,
                decoder_mlm_probability=decoder_mlm_probability,
                base_masks=base_masks,
                sep_visible=sep_visible,
                mask_count=mask_count,
            ),
            batch_size=batch_size,
            num_epochs=num_epochs,
            max_steps=max_steps,
            rank=rank,
            world_size=world_size,
            prefetch=prefetch,
            threads=threads,
            blocks=path / ".blocks" if blocks is None else Path(blocks),
        )
        self._native = TextReader(path, options, report)
        self._batch_size = batch_size
        if state is not None:
            self.load_state_dict(state)

    def __iter__(self) -> Iterator[TextBatch]:
        """The batches not yielded yet."""
        return self

    def __next__(self) -> TextBatch:
        """The next batch.

        Raises:
            StopIteration: the run is over.
        """
        found = self._native.next()
        if found is None:
            raise StopIteration
        return TextBatch(**found)

    def __len__(self) -> int:
        """Global batches of the whole run, those already yielded included; the same on every rank."""
        return self._native.count_steps()

    @property
    def blocks(self) -> dict[str, Any]:
        """What cutting came to.

        `{"blocks", "documents", "tokens", "split_sentences", "path", "hash"}`: documents with at least one token;
        tokens without special ones; sentences longer than a block; the file and hash of the index.
        """
        return self._native.blocks()

    def block(self, block_id: int) -> Block:
        """Where a block comes from.

        Raises:
            IndexError: there is no such block.
        """
        found = self._native.block(block_id) if block_id >= 0 else None
        if found is None:
            raise IndexError(f"no block {block_id}, there are {self.blocks['blocks']}")
        return Block(*found)

    def plan(self) -> Iterator[dict[str, Any]]:
        """Yields the global batches of the whole run from its beginning, without tokenising anything.

        Each is `{"step", "epoch", "blocks"}`, block ids in the order of the epoch.
        """
        total = -(-int(self.blocks["blocks"]) // self._batch_size)
        for step in range(len(self)):
            yield {"step": step, "epoch": step // total, "blocks": self._native.plan(step)}

    def state_dict(self) -> dict[str, Any]:
        """The state behind the batch yielded last: plain JSON values of a few hundred bytes."""
        state: dict[str, Any] = json.loads(self._native.state_json())
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes behind the batch that a state describes, at once.

        Raises:
            ConfigError: the state is of another shard set, tokenizer, length, version or plan, or is damaged.
        """
        self._native.restore(json.dumps(dict(state)))

    def close(self) -> None:
        """Stops and joins the threads. Iterating on starts them again behind the batch yielded last."""
        self._native.close()

    def __enter__(self) -> TextLoader:
        """Nothing to do: threads start with the first batch."""
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the loader."""
        self.close()
