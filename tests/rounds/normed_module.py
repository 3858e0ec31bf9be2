"""A small PyTorch module with batch normalisation and dropout."""

from __future__ import annotations

from torch import nn


def build(num_inputs: int, num_outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(num_inputs, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, num_outputs)
    )
