"""A shard set in an object store becomes a folder of each machine before training reads it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bgetrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bgetrain.config import DataConfig
    from bgetrain.gather import Ranks

__all__ = ["local_shards", "refuse_idle_cache"]


def refuse_idle_cache(data: DataConfig) -> None:
    """Settings of the cache that nothing would be kept in.

    Raises:
        ConfigError: they stand beside a folder.
    """
    from bgeprep.objects import is_url

    given = [name for name in ("cache_dir", "cache_limit") if getattr(data, name) is not None]
    if given and not is_url(data.train_data):
        raise ConfigError(
            f"--{given[0]}: keeps shard sets of a store (s3://…), and --data {data.train_data} is a folder",
            hint="where models of a hub are kept is said by HF_HOME in the environment",
        )


@contextmanager
def local_shards(data: DataConfig, ranks: Ranks) -> Iterator[str]:
    """The folder that a run reads its shards from, while the block runs; every rank must call it.

    One process of a machine fetches, the others wait, and so do the machines for each other, however long it takes.

    Args:
        data: names the set, a folder or a URL, and what of the disk it may take.
        ranks: the place of this process.

    Yields:
        The folder; that of the settings where it is one.

    Raises:
        bgeprep.errors.ConfigError: a limit that is none, or less than the set takes.
        bgeprep.errors.BgeprepError: the set cannot be had.
    """
    from bgeprep.amounts import parse_amount
    from bgeprep.cache import held_set
    from bgeprep.objects import is_url
    from bgeprep.progress import Progress
    from bgetrain.gather import meet_afterwards

    if not is_url(data.train_data):
        yield data.train_data
        return
    limit = int(parse_amount(data.cache_limit, "--cache_limit")) if data.cache_limit is not None else None
    cache = Path(data.cache_dir) if data.cache_dir is not None else None
    progress = Progress()
    with ExitStack() as held:
        with meet_afterwards(ranks):
            folder = held.enter_context(held_set(data.train_data, folder=cache, limit=limit, report=progress))
        progress.close()
        yield str(folder)
