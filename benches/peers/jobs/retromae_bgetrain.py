"""Steps of RetroMAE by bgetrain: reading, tokenising, masking and the optimiser included; counts tokens."""

from __future__ import annotations

from functools import partial

import torch
from training import arguments, measure

from bgeprep import TextLoader, __version__
from bgetrain.config import OptimConfig, PretrainConfig
from bgetrain.data import describe_shards
from bgetrain.gather import Ranks, average_gradients
from bgetrain.optim import build_optimizer, set_learning_rate
from bgetrain.retromae.data import pretrain_batch
from bgetrain.retromae.model import PretrainModel
from bgetrain.retromae.objective import Pretraining

options = arguments(__doc__)
length = options.passage_max_len
config = PretrainConfig(pretrain_method="retromae", max_seq_length=length)
model, _ = PretrainModel.load(options.model, config)
model.train()
learner = Pretraining(model, Ranks(), config, options.chunk or 4_096)
optimizer = build_optimizer(model, OptimConfig())
set_learning_rate(optimizer, 1e-4)
parameters = list(model.parameters())
loader = TextLoader(options.source, options.model, batch_size=options.batch_size, max_seq_length=length)
convert = partial(pretrain_batch, source_rows=describe_shards(options.source).source_rows)
batches = iter(loader)


def step() -> tuple[float, int]:
    """One batch."""
    batch = convert(next(batches))
    optimizer.zero_grad(set_to_none=True)
    (result,) = learner.gradient([batch])
    average_gradients(parameters, Ranks())
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    return float(result.row_losses.mean()), result.tokens


with loader:
    measure(options, __version__, step)
