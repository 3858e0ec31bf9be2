"""Modules that cannot keep the promise, each in its own way; and losses and builders that are wrong."""

from __future__ import annotations

import random
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

SHARED = nn.Linear(36, 3)
SHARED_VALUES = torch.ones(3)
GENERATOR = np.random.default_rng()


class Base(nn.Module):
    """Softmax regression, which subclasses spoil."""

    def __init__(self, num_outputs: int):
        super().__init__()
        self.num_calls = 0
        self.log = []
        self.out = nn.Linear(36, num_outputs)
        self.register_buffer("mask", torch.ones(num_outputs), persistent=False)

    def forward(self, x):
        return self.out(x.flatten(1)) * self.mask


class NoDeterministicForm(Base):
    def forward(self, x):
        z = super().forward(x)
        return z + torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))


class ChangesParameter(Base):
    def forward(self, x):
        with torch.no_grad():
            self.out.weight.mul_(0.99)
        return super().forward(x)


class ReplacesParameter(Base):
    def forward(self, x):
        self.out.weight = nn.Parameter(self.out.weight.detach().clone())
        return super().forward(x)


class ChangesAttribute(Base):
    def forward(self, x):
        self.num_calls += 1
        return super().forward(x)


class GrowsList(Base):
    def forward(self, x):
        self.log.append(len(x))
        return super().forward(x)


class ChangesMask(Base):
    def forward(self, x):
        self.mask *= 0.5
        return super().forward(x)


class SwitchesMode(Base):
    def __init__(self, num_outputs: int):
        super().__init__(num_outputs)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        z = super().forward(x)
        self.drop.eval()
        return z


class PythonRandom(Base):
    def forward(self, x):
        return super().forward(x) * random.random()


class NumpyRandom(Base):
    def forward(self, x):
        return super().forward(x) * np.random.rand()


class OwnGenerator(Base):
    def forward(self, x):
        return super().forward(x) * GENERATOR.random()


class TellsTheTime(Base):
    def forward(self, x):
        return super().forward(x) * (time.time_ns() % 1_000_003)


class Remembers(Base):
    """Adds what it saw in the call before, in a place that no attribute shows."""

    def __init__(self, num_outputs: int):
        super().__init__(num_outputs)
        self.memory = type("Memory", (), {"value": 0.0})()

    def forward(self, x):
        z = super().forward(x) + self.memory.value
        self.memory.value = x.mean().item()
        return z


class SparseGradient(nn.Module):
    def __init__(self, num_outputs: int):
        super().__init__()
        self.table = nn.Embedding(5, num_outputs, sparse=True)

    def forward(self, x):
        return self.table((x.flatten(1)[:, 0] > 0).long())


class ComplexParameter(Base):
    def __init__(self, num_outputs: int):
        super().__init__(num_outputs)
        self.phase = nn.Parameter(torch.ones(3, dtype=torch.complex64))


class IntegerParameter(Base):
    def __init__(self, num_outputs: int):
        super().__init__(num_outputs)
        self.levels = nn.Parameter(torch.ones(3, dtype=torch.int64), requires_grad=False)


class HalfPrecision(Base):
    def __init__(self, num_outputs: int):
        super().__init__(num_outputs)
        self.out.half()


class SharesModule(Base):
    def __init__(self, num_outputs: int):
        super().__init__(num_outputs)
        self.out = SHARED


class SharesBuffer(Base):
    def __init__(self, num_outputs: int):
        super().__init__(num_outputs)
        self.register_buffer("values", SHARED_VALUES)


class LooksAtNeighbours(Base):
    def forward(self, x):
        z = super().forward(x)
        return z - z.mean(0)


class SetsThreads(Base):
    def forward(self, x):
        torch.set_num_threads(2)
        return super().forward(x)


class SwitchesDeterminismOff(Base):
    def forward(self, x):
        torch.use_deterministic_algorithms(False)
        return super().forward(x)


class WrongOutputs(Base):
    def forward(self, x):
        return super().forward(x)[:, :2]


class TwoOutputs(Base):
    def forward(self, x):
        return super().forward(x), x


class Detaches(Base):
    def forward(self, x):
        return super().forward(x).detach()


class Fails(Base):
    def forward(self, x):
        return self.out(x)


class NothingToTrain(Base):
    def __init__(self, num_outputs: int):
        super().__init__(num_outputs)
        self.requires_grad_(False)


class ExtraState(Base):
    def get_extra_state(self):
        return {"calls": self.num_calls}


class HalfBuffer(Base):
    def __init__(self, num_outputs: int):
        super().__init__(num_outputs)
        self.register_buffer("small", torch.ones(3, dtype=torch.bfloat16))


class NormalisesBatch(Base):
    def __init__(self, num_outputs: int):
        super().__init__(num_outputs)
        self.norm = nn.BatchNorm1d(num_outputs)

    def forward(self, x):
        return self.norm(super().forward(x))


class FewTokens(nn.Module):
    """Knows fewer tokens than there are."""

    def __init__(self, num_outputs: int):
        super().__init__()
        self.tokens = nn.Embedding(4, num_outputs)

    def forward(self, x):
        return self.tokens(x)


def random_beginning(num_outputs: int) -> nn.Module:
    module = Base(num_outputs)
    nn.init.constant_(module.out.weight, random.random())
    return module


def no_module(num_outputs: int) -> object:
    return {"out": num_outputs}


def unknown_argument(num_outputs: int, width: int) -> nn.Module:
    return nn.Linear(width, num_outputs)


def mean_loss(outputs, y):
    return functional.cross_entropy(outputs, y)


def broadcast_loss(outputs, y):
    return (outputs - y.unsqueeze(1)).square()


def no_tensor_loss(outputs, y):
    return [outputs[i, y[i]].item() for i in range(len(y))]
