"""AdamW against PyTorch's, and on slices of the flat vector."""

from __future__ import annotations

import numpy as np
import pytest

from distbp.config import Optimizer
from distbp.nn.layout import Entry, Layout
from distbp.nn.optimizers import MOMENTS, update

OPTIMIZER = Optimizer(kind="adamw", weight_decay=0.1, betas=[0.8, 0.95], eps=1e-6)
DECAYS = ((3, 20, 0.1), (30, 31, 0.4))


def train(w, gradients, offset=0, decays=DECAYS):
    moments = [np.zeros_like(w) for _ in MOMENTS["adamw"]]
    for step, g in enumerate(gradients, start=1):
        update(OPTIMIZER, w, moments, g.copy(), step, 0.01 / step, decays, offset)
    return w, moments


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adamw_follows_pytorch_step_by_step(dtype):
    torch = pytest.importorskip("torch", reason="needs torch, from the extra distbp[torch]")
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(50).astype(dtype), rng.standard_normal((20, 50)).astype(dtype)
    theirs = torch.nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.AdamW([theirs], lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    ours = start.copy()
    for step in range(1, 21):
        train(ours_at := start.copy(), gradients[:step], decays=((0, 50, 0.1),))
        optimizer.param_groups[0]["lr"] = 0.01 / step
        theirs.grad = torch.tensor(gradients[step - 1])
        optimizer.step()
        ours = ours_at
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        assert ours == pytest.approx(theirs.detach().numpy(), rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("cut", [1, 10, 30, 49])
def test_adamw_of_slices_is_adamw_of_the_whole(cut):
    rng = np.random.default_rng(1)
    start, gradients = rng.standard_normal(50).astype("float32"), rng.standard_normal((5, 50)).astype("float32")
    whole, moments = train(start.copy(), gradients)
    parts = [train(start[:cut].copy(), gradients[:, :cut]), train(start[cut:].copy(), gradients[:, cut:], offset=cut)]
    assert np.concatenate([part for part, _ in parts]).tobytes() == whole.tobytes()
    for number, moment in enumerate(moments):
        assert np.concatenate([found[number] for _, found in parts]).tobytes() == moment.tobytes()


def test_the_first_name_pattern_that_fits_says_how_much_a_tensor_decays():
    layout = Layout((
        Entry("body.weight", (2, 2)),
        Entry("body.bias", (2,), decays=False),
        Entry("head.weight", (1, 2)),
        Entry("head.bias", (1,), decays=False),
        Entry("mean", (2,), kind="buffer"),
        Entry("embedding", (2,), kind="frozen"),
    ))  # fmt: skip
    assert layout.decays(0.1, {}) == ((0, 4, 0.1), (6, 8, 0.1))
    assert layout.decays(0.1, {"head.bias": 0.0, "head.*": 0.5}) == ((0, 4, 0.1), (6, 8, 0.5))
    assert layout.decays(0.0, {"*.bias": 0.2, "*": 0.3}) == ((0, 4, 0.3), (4, 6, 0.2), (6, 8, 0.3), (8, 9, 0.2))
