"""Losses of a module's outputs, one for each example or token.

Shape legend: B examples, T places in a sequence, K classes, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from distbp.nn.model import IGNORED

Losses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return -log softmax(outputs)_y. outputs: (B, K) or (B, T, K), y: (B,) or (B, T); 0 where y is ignored."""
    rows = outputs.reshape(-1, outputs.shape[-1])  # classes stay side by side in memory: a third faster on sequences
    return functional.cross_entropy(rows, y.reshape(-1), reduction="none", ignore_index=IGNORED).reshape(y.shape)


def squared_error(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return sum_j (a_j - y_j)^2, (B,). outputs: (B, O); y: (B, O), or (B,) classes that mean one-hot rows."""
    wanted = y if y.is_floating_point() else functional.one_hot(y, outputs.shape[-1]).to(outputs.dtype)
    return (outputs - wanted).square().flatten(1).sum(1)


def binary_cross_entropy(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the summed loss of O classes that are each there or not, (B,). outputs: (B, O) before the sigmoid."""
    return functional.binary_cross_entropy_with_logits(outputs, y, reduction="none").flatten(1).sum(1)


BY_NAME: dict[str, Losses] = {
    "cross_entropy": cross_entropy,
    "squared_error": squared_error,
    "binary_cross_entropy": binary_cross_entropy,
}
