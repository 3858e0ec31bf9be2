"""Refuses before training what cannot keep the promise, by computing one microbatch several times and comparing.

What is found: operations without a deterministic form, results that change from call to call or with the time, random
numbers that are not torch's, parameters, masks, flags or attributes that a forward pass changes, changed settings of
torch, sparse gradients, builds that share parts or memory, microbatches too small for the module, and losses of an
example that in evaluation depend on the examples beside it.

What cannot be found: code that behaves otherwise only on other data, or after more calls; draws from generators of
libraries other than Python, NumPy and torch that happen to repeat; settings that are changed and set back within one
pass; and modules that look across the examples of a microbatch in training alone, as batch normalisation does. The
last of these keep their bytes, since microbatches do not depend on workers; they only learn something else than with
whole batches.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray

from distbp.errors import ConfigError
from distbp.nn.modules import process
from distbp.nn.modules.torch_model import TorchModel
from distbp.nn.streams import Purpose, stream


def check_module(model: TorchModel, other: TorchModel, x: NDArray, y: NDArray, smallest: int) -> None:
    """Raise ConfigError if a model, built twice and tried out on the microbatch x (B, I), y, breaks the rules.

    smallest: number of examples in the smallest microbatch of the run.
    """
    _check_apart(model, other)
    flat = _check_same_beginning(model, other, x.dtype)
    foreign = process.foreign_states()
    first = _gradient(model, flat, x, y)
    if process.foreign_states() != foreign:
        raise ConfigError(
            "the module draws from Python's random or numpy.random, which distbp cannot key to a step; use torch's"
        )
    _check_unchanged(model, flat, x, y)
    _gradient(model, flat, np.repeat(x[:1], len(x), axis=0), np.repeat(y[:1], len(y), axis=0))  # something else between
    for repeated in (_gradient(model, flat, x, y), _gradient(other, flat, x, y)):
        if repeated != first:
            raise ConfigError(
                "the module gives other gradients when the same microbatch is computed again; it keeps something from "
                "call to call, or depends on time or memory: make its forward pass a function of its inputs"
            )
    _check_company(model, flat, x, y)
    _check_smallest(model, flat, x[:smallest], y[:smallest])


def _check_same_beginning(model: TorchModel, other: TorchModel, dtype: np.dtype) -> NDArray:
    """Return initial parameters, which two builds from one seed must have in common."""
    flat: NDArray = np.zeros(model.layout.num_parameters, dtype)
    again = np.zeros(other.layout.num_parameters, dtype)
    model.init(model.layout.views(flat), stream(0, Purpose.INIT))
    other.init(other.layout.views(again), stream(0, Purpose.INIT))
    if model.layout != other.layout or flat.tobytes() != again.tobytes():
        raise ConfigError(
            "two builds of the module have different initial values; draw them with torch alone, "
            "whose generator distbp seeds"
        )
    return flat


def _gradient(model: TorchModel, flat: NDArray, x: NDArray, y: NDArray) -> bytes:
    """Return loss and gradient of one microbatch as bytes."""
    gradient = np.full_like(flat, np.nan)
    sums = model.gradient_sums(model.layout.views(flat), x, y, model.layout.views(gradient), stream(0, Purpose.DROPOUT))
    return np.float64(sums.loss).tobytes() + gradient.tobytes()


def _check_apart(model: TorchModel, other: TorchModel) -> None:
    shared = _identities(model.module) & _identities(other.module)
    if shared:
        raise ConfigError(
            "two calls of the builder share modules, parameters or buffers; make new ones in every call, for each "
            "worker's thread has a module of its own"
        )


def _identities(module: torch.nn.Module) -> set[int]:
    """Return what tells the parts of a module and the memory of its tensors apart from those of another."""
    tensors = [*module.parameters(), *module.buffers()]
    memory = {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.numel()}
    return {id(part) for part in module.modules()} | memory


def _check_unchanged(model: TorchModel, flat: NDArray, x: NDArray, y: NDArray) -> None:
    """Refuse forward passes that change parameters, flags or plain attributes."""
    before = _attributes(model.module)
    _gradient(model, flat, x, y)
    after = _attributes(model.module)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    changed += model.find_changes(flat)
    if changed:
        raise ConfigError(
            f"the forward pass changes {', '.join(repr(name) for name in changed[:3])}; only buffers "
            "(register_buffer) may change, and parameters by the optimizer alone"
        )


def _attributes(module: torch.nn.Module) -> dict[str, str]:
    """Return a fingerprint of whatever a forward pass must leave alone.

    Buffers that are no part of the state, and attributes that are tensors, arrays, numbers or text.
    """
    stored = module.state_dict(keep_vars=True)
    found = {name: _hash(buffer) for name, buffer in module.named_buffers() if name not in stored}
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if name.startswith("_") and name in torch.nn.Module().__dict__:
                continue
            if isinstance(value, torch.Tensor | np.ndarray | int | float | str | list | tuple | dict):
                found[f"{prefix}.{name}" if prefix else name] = _hash(value)
    return found


def _hash(value: object) -> str:
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    content = np.ascontiguousarray(value).tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
    return hashlib.sha256(content).hexdigest()


def _check_company(model: TorchModel, flat: NDArray, x: NDArray, y: NDArray) -> None:
    """Refuse a module whose loss of one example depends, in evaluation, on the examples beside it."""
    if len(x) < 2:
        return
    views = model.layout.views(flat)
    alone = sum(model.loss_sums(views, x[i : i + 1], y[i : i + 1]).loss for i in range(len(x)))
    together = model.loss_sums(views, x, y).loss
    tolerance = 1e-3 if flat.dtype == np.float32 else 1e-8
    if abs(alone - together) > tolerance * (1 + abs(together)):
        raise ConfigError(
            f"the loss of an example depends on the examples beside it: {together:g} for {len(x)} together, "
            f"{alone:g} for them one by one; only batch normalisation may look across examples"
        )


def _check_smallest(model: TorchModel, flat: NDArray, x: NDArray, y: NDArray) -> None:
    """Refuse microbatches on which the module fails because they are so small, such as 1 for batch normalisation."""
    try:
        _gradient(model, flat, x, y)
    except ConfigError as error:
        raise ConfigError(
            f"{error}; the last microbatch of a batch has as few as {len(x)} here: choose global_batch_size and "
            "microbatch_size so that it has more"
        ) from None
