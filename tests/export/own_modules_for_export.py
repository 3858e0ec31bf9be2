"""Modules of a user's own, which ONNX graphs are written from, and some of which none can be."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def build(num_inputs: int, num_outputs: int) -> nn.Module:
    """Return a network of one layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(num_inputs, num_outputs))


def build_64(num_inputs: int, num_outputs: int) -> nn.Module:
    """Return a network of two layers in float64."""
    layers = nn.Linear(num_inputs, 9), nn.Tanh(), nn.LayerNorm(9), nn.Linear(9, num_outputs)
    return nn.Sequential(*layers).double()


class Cnn(nn.Module):
    """Convolution, batch normalisation, pooling and dropout over images (B, rows, columns)."""

    def __init__(self, num_outputs: int):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.drop, self.out = nn.Dropout(0.3), nn.Linear(4 * 9, num_outputs)

    def forward(self, x):
        x = functional.max_pool2d(torch.relu(self.norm(self.conv(x.unsqueeze(1)))), 2)
        return self.out(self.drop(x.flatten(1)))


def cnn_64(num_outputs: int) -> nn.Module:
    return Cnn(num_outputs).double()


class Transformer(nn.Module):
    """One causal layer over tokens (B, T); the embedding is the output layer too."""

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...]):
        super().__init__()
        self.tokens = nn.Embedding(num_outputs, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.1, batch_first=True)
        self.out = nn.Linear(8, num_outputs, bias=False)
        self.out.weight = self.tokens.weight
        mask = nn.Transformer.generate_square_subsequent_mask(*input_shape)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        return self.out(self.layer(self.tokens(x), src_mask=self.mask, is_causal=True))


def transformer_64(num_outputs: int, input_shape: tuple[int, ...]) -> nn.Module:
    return Transformer(num_outputs, input_shape).double()


class Recurrent(nn.Module):
    """An LSTM over (B, T, I), its last state told apart."""

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...]):
        super().__init__()
        self.lstm = nn.LSTM(input_shape[-1], 6, batch_first=True)
        self.out = nn.Linear(6, num_outputs)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


def recurrent_64(num_outputs: int, input_shape: tuple[int, ...]) -> nn.Module:
    return Recurrent(num_outputs, input_shape).double()


class Linear(nn.Module):
    """One layer, whose inputs subclasses change."""

    def __init__(self, num_inputs: int, num_outputs: int):
        super().__init__()
        self.out = nn.Linear(num_inputs, num_outputs)

    def forward(self, x):
        return self.out(self.change(x.flatten(1)))


class Bessel(Linear):
    """ONNX has no such function."""

    def change(self, x):
        return torch.special.bessel_j0(x.detach())


class Decides(Linear):
    """Computes otherwise where a value says so."""

    def change(self, x):
        return x if x.isfinite().all() else x.nan_to_num()


class Counts(Linear):
    """Makes a plain number of the number of examples."""

    def change(self, x):
        return torch.cat([row.unsqueeze(0) for row in x])


class DrawsAlways(Linear):
    """Drops inputs in evaluation too."""

    def change(self, x):
        return functional.dropout(x, 1e-7, training=True)
