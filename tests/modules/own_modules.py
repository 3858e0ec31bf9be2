"""A user's modules in plain PyTorch, as `model.torch: own_modules:Cnn` names them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Cnn(nn.Module):
    """Convolution, batch normalisation, pooling and dropout. Images arrive as (B, rows, columns)."""

    def __init__(self, num_outputs: int, dropout: float = 0.2):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(4 * 9, num_outputs)

    def forward(self, x):
        x = functional.max_pool2d(torch.relu(self.norm(self.conv(x.unsqueeze(1)))), 2)
        return self.out(self.drop(x.flatten(1)))


class Transformer(nn.Module):
    """One causal layer whose embedding is its output layer too. Tokens arrive as (B, T) int64."""

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...], width: int = 8, dropout: float = 0.1):
        super().__init__()
        self.tokens = nn.Embedding(num_outputs, width)
        self.places = nn.Parameter(torch.randn(*input_shape, width) * 0.1)
        self.layer = nn.TransformerEncoderLayer(width, 2, 16, dropout, batch_first=True)
        self.out = nn.Linear(width, num_outputs, bias=False)
        self.out.weight = self.tokens.weight
        mask = nn.Transformer.generate_square_subsequent_mask(*input_shape)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        return self.out(self.layer(self.tokens(x) + self.places, src_mask=self.mask, is_causal=True))


class Recurrent(nn.Module):
    """An LSTM over (B, T, I), its last state told apart."""

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...]):
        super().__init__()
        self.lstm = nn.LSTM(input_shape[-1], 6, batch_first=True)
        self.out = nn.Linear(6, num_outputs)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


class Regression(nn.Sequential):
    """Several numbers from several numbers."""

    def __init__(self, num_inputs: int, num_outputs: int):
        super().__init__(nn.Linear(num_inputs, 9), nn.Tanh(), nn.LayerNorm(9), nn.Linear(9, num_outputs))


def wide_cnn(num_outputs: int, width: int) -> nn.Module:
    """Normalised images, then more parameters than one block has."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(36, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.BatchNorm1d(width),
        nn.Linear(width, num_outputs),
    )


def plain_cnn(num_outputs: int) -> nn.Module:
    """Without anything that looks across examples or draws."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)),
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, num_outputs),
    )


def batch_norm_64(num_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, num_outputs), nn.BatchNorm1d(num_outputs)).double()


def half_frozen(num_outputs: int) -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.Tanh(), nn.Linear(6, num_outputs))
    module[1].requires_grad_(False)
    return module


def lazy(num_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(5), nn.LazyBatchNorm1d(), nn.LazyLinear(num_outputs))


class WithConstant(nn.Module):
    """Has a buffer of values that additions would spoil."""

    def __init__(self, num_inputs: int, num_outputs: int):
        super().__init__()
        self.out = nn.Linear(num_inputs, num_outputs)
        self.register_buffer("scale", torch.tensor([0.1, torch.inf, -0.0, 3e-39]))

    def forward(self, x):
        return self.out(x) * self.scale[0]


with_constant = WithConstant


def plain_cnn_64(num_outputs: int) -> nn.Module:
    return plain_cnn(num_outputs).double()


def Transformer_64(num_outputs: int, input_shape: tuple[int, ...], dropout: float = 0.0) -> nn.Module:  # noqa: N802
    return Transformer(num_outputs, input_shape, dropout=dropout).double()


def Recurrent_64(num_outputs: int, input_shape: tuple[int, ...]) -> nn.Module:  # noqa: N802
    return Recurrent(num_outputs, input_shape).double()


def Regression_64(num_inputs: int, num_outputs: int) -> nn.Module:  # noqa: N802
    return Regression(num_inputs, num_outputs).double()


def cross_entropy_again(outputs, y):
    return functional.cross_entropy(outputs, y, reduction="none")


def doubled_cross_entropy(outputs, y):
    return 2 * cross_entropy_again(outputs, y)


def digits_cnn(num_outputs: int) -> nn.Module:
    """For the bundled digits, (B, 8, 8)."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(8 * 16, num_outputs),
    )


class DrawsSometimes(nn.Module):
    """Draws for some microbatches and not for others."""

    def __init__(self, num_outputs: int):
        super().__init__()
        self.out = nn.Linear(36, num_outputs)

    def forward(self, x):
        if self.training and x.mean() > 0.05:
            x = functional.dropout(x, 0.3)
        return self.out(x.flatten(1))


draws_sometimes = DrawsSometimes
