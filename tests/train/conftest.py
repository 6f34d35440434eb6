"""A tiny BERT on disk, and the in-memory loader in place of shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.train.fake_loader import FakeLoader, FakeRow, random_rows
from tests.train.tiny import VOCABULARY, write_tiny_bert

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder: 2 layers of 16, dropout 0.1, WordPiece of a few words."""
    return write_tiny_bert(tmp_path_factory.mktemp("model") / "tiny-bert", dropout=0.1)


def install_fake_data(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[FakeLoader]]:
    """See `fake_data`, for fixtures that live longer than a test."""

    def install(rows: list[FakeRow] | None = None, *, loader: type[FakeLoader] = FakeLoader) -> list[FakeLoader]:
        from bgetrain.data import ShardFacts

        used = random_rows(40, vocabulary=VOCABULARY, seed=1) if rows is None else rows
        opened: list[FakeLoader] = []

        def describe(path: str) -> ShardFacts:
            return ShardFacts("abc123", "pairs", ("one",), ("retrieval",), "find: ", ("en",), (len(used),))

        def open_loader(config: Any, **words: Any) -> FakeLoader:
            run = config.run
            fake = loader(
                used,
                batch_size=words["batch_size"],
                rank=words["rank"],
                world_size=words["world_size"],
                seed=run.seed,
                epochs=run.num_train_epochs,
                max_steps=run.max_steps * words["accumulation"] if run.max_steps > 0 else None,
            )
            opened.append(fake)
            return fake

        monkeypatch.setattr("bgetrain.data.describe_shards", describe)
        monkeypatch.setattr("bgetrain.contrastive.open_loader", open_loader)
        return opened

    return install


@pytest.fixture
def fake_data(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[FakeLoader]]:
    """Replaces shard set and loader by rows in memory; calling it returns the loaders that were opened."""
    return install_fake_data(monkeypatch)
