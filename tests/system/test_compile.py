"""`--torch_compile` with the compiler of this machine: half a minute, most of it inside g++."""

from __future__ import annotations

import shutil

import pytest
import torch

from tests.train.tiny import tiny_encoder


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_compiled_encoder_is_the_same(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors and gradients of batches of several shapes, as `bgetrain train --torch_compile` compiles them."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    plain, compiled = (tiny_encoder(dtype=torch.float32) for _ in range(2))
    names = list(compiled.state_dict())
    torch._dynamo.reset()
    compiled.backbone.compile(dynamic=True)
    assert list(compiled.state_dict()) == names
    generator = torch.Generator().manual_seed(1)
    for shape in ((6, 7), (12, 13), (5, 9)):
        ids = torch.randint(5, 50, shape, generator=generator)
        mask = torch.ones_like(ids)
        mask[0, 3:] = 0
        wanted = torch.randn(shape[0], 16, generator=generator)
        losses = []
        for encoder in (plain, compiled):
            loss = ((encoder(ids, mask) - wanted) ** 2).mean()
            loss.backward()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for (name, ours), theirs in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5, msg=name)
