"""From the recipe's words to a module: import the user's builder, call it with what it asks for, key what it draws."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from distbp.errors import ConfigError
from distbp.nn.modules import process
from distbp.nn.modules.losses import BY_NAME, Losses
from distbp.nn.modules.torch_model import Form, TorchModel

if TYPE_CHECKING:
    from distbp.nn.build import ModelSpec

Builder = Callable[..., torch.nn.Module]


def build_model(build: Builder, losses: Losses | str, spec: ModelSpec) -> TorchModel:
    """Return the model around the module that `build` makes. losses: a function, or the name of one of BY_NAME.

    Raises ConfigError if there can be none.
    """
    if losses == "cross_entropy" and not spec.is_classification:
        raise ConfigError(
            "model.loss=cross_entropy needs classes, but the targets are numbers; "
            "use model.loss=squared_error, or data.task=classification if they are classes"
        )
    known = {"num_inputs": spec.num_inputs, "input_shape": spec.input_shape, "num_outputs": spec.num_outputs}
    form = Form(
        input_shape=spec.input_shape,
        integer_inputs=spec.integer_inputs,
        is_classification=spec.is_classification,
        num_outputs=spec.num_outputs,
        target_shape=spec.target_shape,
        per_token=spec.config.loss_per == "token",
        has_named_loss=isinstance(losses, str),
        dtype=spec.dtype,
        target_units=spec.target_units,
        has_many_labels=losses == "binary_cross_entropy",
    )
    dtype = "int64" if spec.integer_inputs else spec.dtype
    make = partial(build_module, build, known, spec.config.options, dtype)
    return TorchModel(make, BY_NAME[losses] if isinstance(losses, str) else losses, form)


def build_module(
    build: Builder, known: Mapping[str, Any], options: Mapping[str, Any], dtype: str, seed: int
) -> torch.nn.Module:
    """Return the module that `build` makes, its initial values drawn from `seed`.

    known: what a builder may ask for by the names of its parameters: num_inputs, input_shape, num_outputs.
    options: further keyword arguments. dtype: of the inputs.

    Raises ConfigError if it cannot be called so, or makes no module.
    """
    asked = _asked_for(build, known)
    with process.drawing_from(seed):
        try:
            module = build(**{**asked, **options})
        except Exception as error:
            given = ", ".join(f"{key}={value!r}" for key, value in {**asked, **options}.items())
            raise ConfigError(f"calling the builder with ({given}) failed: {type(error).__name__}: {error}") from error
        if not isinstance(module, torch.nn.Module):
            raise ConfigError(f"the builder returned {type(module).__name__}; expected a torch.nn.Module")
        _make_lazy_parts(module, known["input_shape"], dtype)
    return module


def _asked_for(build: Builder, known: Mapping[str, Any]) -> dict[str, Any]:
    names = inspect.signature(build).parameters
    return {name: value for name, value in known.items() if name in names}


def _make_lazy_parts(module: torch.nn.Module, input_shape: tuple[int, ...], dtype: str) -> None:
    """Give lazy layers their shapes by passing two examples of zeros through them."""
    is_lazy = any(torch.nn.parameter.is_lazy(tensor) for tensor in [*module.parameters(), *module.buffers()])
    if is_lazy:
        trains = [(part, part.training) for part in module.modules()]
        module.eval()
        with torch.no_grad():
            module(torch.zeros((2, *input_shape), dtype=getattr(torch, dtype)))
        for part, was_training in trains:
            part.training = was_training
