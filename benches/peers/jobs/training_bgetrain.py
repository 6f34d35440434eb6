"""Steps of bgetrain: `--variant cached` computes chunks twice, `kept` none; `fits`, `quarter`: graphs in 1, ¼ GiB."""

from __future__ import annotations

import torch
from training import arguments, measure

from bgeprep import BatchLoader, __version__
from bgetrain.activation_memory import choose_chunking
from bgetrain.config import LossConfig, OptimConfig
from bgetrain.data import describe_shards, train_batch
from bgetrain.dropout import switch_on
from bgetrain.encode import Encoder
from bgetrain.gather import Ranks, average_gradients
from bgetrain.objective import batch_gradient
from bgetrain.optim import build_optimizer, set_learning_rate

options = arguments(__doc__)
encoder = Encoder.load(options.model).train()
# as `bgetrain train` does on a CPU
switch_on(encoder)
optimizer = build_optimizer(encoder, OptimConfig())
set_learning_rate(optimizer, 1e-4)
tasks = describe_shards(options.source).tasks
chunking = choose_chunking(
    encoder,
    longest=max(options.query_max_len, options.passage_max_len),
    micro_batch_tokens=None,
    grad_cache={"cached": True, "kept": False}.get(options.variant),
    activation_memory={"quarter": 0.25}.get(options.variant, 1.0),
    bf16=False,
    processes_here=1,
)
loader = BatchLoader(
    options.source,
    options.model,
    batch_size=options.batch_size,
    train_group_size=1,
    query_max_len=options.query_max_len,
    passage_max_len=options.passage_max_len,
    query_instruction=False,
)
batches = iter(loader)
parameters = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
config = LossConfig(temperature=options.temperature)


def step() -> float:
    """One batch."""
    batch = train_batch(next(batches), tasks)
    optimizer.zero_grad(set_to_none=True)
    result = batch_gradient(encoder, batch, Ranks(), config, step_rows=batch.global_rows, chunking=chunking)
    average_gradients(parameters, Ranks())
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    return float(result.row_losses.mean())


with loader:
    measure(options, __version__, step)
