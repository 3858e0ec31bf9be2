"""A module's parameters and buffers as distbp keeps them: by the module's own names, in one flat vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from numpy.typing import NDArray

from distbp.errors import ConfigError
from distbp.nn.layout import Entry, Layout


@dataclass(frozen=True)
class Parts:
    """The parameters and buffers of one module. Tied weights stand once; `layout` says where each lies.

    trained: parameters with a gradient. kept: frozen parameters. buffers: what a forward pass may change, those of the
    module's state_dict; others, such as masks, are the same in every build and stay as they are.
    """

    trained: dict[str, torch.nn.Parameter]
    kept: dict[str, torch.nn.Parameter]
    buffers: dict[str, torch.Tensor]
    layout: Layout

    @classmethod
    def of(cls, module: torch.nn.Module, dtype: str) -> Parts:
        """Return the parts of `module`. Raises ConfigError for tensors that cannot be trained under the promise."""
        named = dict(module.named_parameters())
        for name, parameter in named.items():
            _check_parameter(name, parameter, dtype)
        trained = {name: p for name, p in named.items() if p.requires_grad}
        kept = {name: p for name, p in named.items() if not p.requires_grad}
        stored = module.state_dict(keep_vars=True)
        _check_stored(stored, named)
        buffers = {name: buffer for name, buffer in module.named_buffers() if name in stored}
        for name, buffer in buffers.items():
            _check_buffer(name, buffer, dtype)
        if not trained:
            raise ConfigError("the module has no parameter to train; give it one with requires_grad=True")
        first_names = {id(tensor): name for name, tensor in {**named, **buffers}.items()}
        aliases = tuple((name, first_names[id(t)]) for name, t in stored.items() if name not in named | buffers)
        entries = (
            *(Entry(name, tuple(p.shape), decays=p.ndim > 1) for name, p in trained.items()),
            *(Entry(name, tuple(p.shape), decays=False, kind="frozen") for name, p in kept.items()),
            *(Entry(name, tuple(b.shape), False, "buffer", _name(b.dtype)) for name, b in buffers.items()),
        )
        return cls(trained, kept, buffers, Layout(entries, aliases))

    def write_to(self, views: Mapping[str, NDArray]) -> None:
        """Copy the module's tensors into the flat vector's views."""
        for name, tensor in self._all().items():
            views[name][...] = tensor.detach().numpy()

    def read_from(self, views: Mapping[str, NDArray]) -> None:
        """Copy the flat vector's views into the module's tensors."""
        _copy(self._all(), views)

    def read_buffers_from(self, views: Mapping[str, NDArray]) -> None:
        """Copy only what a forward pass may have changed."""
        _copy(self.buffers, views)

    def _all(self) -> dict[str, torch.Tensor]:
        return {**self.trained, **self.kept, **self.buffers}


def _copy(tensors: Mapping[str, torch.Tensor], views: Mapping[str, NDArray]) -> None:
    """Copy; whole numbers, such as a count of batches, are kept as floats in the flat vector."""
    with torch.no_grad():
        for name, tensor in tensors.items():
            values = torch.from_numpy(views[name])
            tensor.copy_(values if tensor.is_floating_point() else values.round())


def _check_parameter(name: str, parameter: torch.Tensor, dtype: str) -> None:
    if parameter.is_complex() or not parameter.is_floating_point():
        raise ConfigError(
            f"parameter '{name}' is {_name(parameter.dtype)}; distbp trains float32 and float64, "
            "so use real floating-point parameters"
        )
    if parameter.layout != torch.strided:
        raise ConfigError(f"parameter '{name}' is sparse; use a dense one")
    if _name(parameter.dtype) != dtype:
        raise ConfigError(
            f"parameter '{name}' is {_name(parameter.dtype)} and the recipe's dtype is {dtype}; "
            f"convert the module, for example module.to(torch.{dtype}), or set dtype={_name(parameter.dtype)}"
        )
    if parameter.device.type != "cpu":
        raise ConfigError(f"parameter '{name}' is on {parameter.device}; distbp computes on the CPU: build it there")


def _check_stored(stored: Mapping[str, object], named: Mapping[str, torch.Tensor]) -> None:
    """Refuse modules whose state_dict is not their parameters and buffers by their own names."""
    odd = [
        name for name, value in stored.items() if not isinstance(value, torch.Tensor) or name.endswith("_extra_state")
    ]
    missing = [name for name in named if name not in stored]
    if odd or missing:
        raise ConfigError(
            f"the module's state_dict has {(odd or ['no ' + missing[0]])[0]!r} beside its parameters and buffers; "
            "leave state_dict and get_extra_state as they are, and keep state in buffers (register_buffer)"
        )


def _check_buffer(name: str, buffer: torch.Tensor, dtype: str) -> None:
    if buffer.is_complex() or buffer.layout != torch.strided:
        raise ConfigError(f"buffer '{name}' is {_name(buffer.dtype)}, {buffer.layout}; use a real dense tensor")
    if buffer.dtype in (torch.float16, torch.bfloat16):
        raise ConfigError(f"buffer '{name}' is {_name(buffer.dtype)}; distbp keeps float32 and float64, so convert it")
    kept = buffer.to(getattr(torch, dtype)).to(buffer.dtype)
    if not torch.equal(kept.nan_to_num(), buffer.nan_to_num()):
        raise ConfigError(
            f"buffer '{name}' is {_name(buffer.dtype)} with values that {dtype} cannot hold; convert it, "
            "or set dtype=float64"
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
