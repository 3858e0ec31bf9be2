"""The PyTorch modules of the benchmark, for distbp and for PyTorch itself."""

from __future__ import annotations

import torch
from torch import nn


def cnn(num_outputs: int = 10) -> nn.Module:
    """Return two 5x5 convolutions with pooling and a dense layer of 1,024, on images (B, 784)."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 49, 1024),
        nn.ReLU(),
        nn.Linear(1024, num_outputs),
    )


class Transformer(nn.Module):
    """Two causal layers of width 128 over tokens (B, 64); the embedding is the output layer too.

    Its embedding starts with a deviation of 0.02, as GPT-2's does. With PyTorch's 1 most probabilities are subnormal
    numbers, which processors multiply ten times more slowly, and the benchmark would time nothing else.
    """

    def __init__(self, num_outputs: int, num_places: int = 64, width: int = 128):
        super().__init__()
        self.tokens = nn.Embedding(num_outputs, width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.places = nn.Parameter(torch.randn(num_places, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(num_places), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, 64, K)."""
        hidden = self.layers(self.tokens(x) + self.places, mask=self.mask, is_causal=True)
        return hidden @ self.tokens.weight.T


def transformer(num_outputs: int = 1000) -> nn.Module:
    """Return the transformer."""
    return Transformer(num_outputs)
