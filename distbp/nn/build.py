"""From a recipe's model section to a model: the fully connected network, or the user's own function."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import numpy as np

from distbp.config import Model as ModelConfig
from distbp.errors import ConfigError
from distbp.nn.layout import Layout
from distbp.nn.mlp import build_mlp
from distbp.nn.model import Model, Sums
from distbp.nn.streams import Purpose, stream


@dataclass(frozen=True)
class ModelSpec:
    """Everything a process needs to build the model: small, plain, and the same everywhere."""

    config: ModelConfig
    num_inputs: int
    num_outputs: int
    is_classification: bool
    dtype: str

    def build(self) -> Model:
        """Return a model of its own for one thread.

        Raises ConfigError if the loss does not fit the task or the user's function cannot be had.
        """
        if self.config.function is not None:
            return _build_user_model(self.config.function, self)
        if self.config.loss == "cross_entropy" and not self.is_classification:
            raise ConfigError(
                "model.loss=cross_entropy needs classes, but the targets are numbers; "
                "use model.loss=squared_error, or data.task=classification if they are classes"
            )
        return build_mlp(self.config, self.num_inputs, self.num_outputs, self.is_classification, self.dtype)


def _build_user_model(function: str, spec: ModelSpec) -> Model:
    module_name, _, attribute = function.partition(":")
    try:
        build = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise ConfigError(
            f"model.function={function}: cannot import '{module_name}' ({error}); run where it can be imported"
        ) from error
    except AttributeError:
        raise ConfigError(f"model.function={function}: '{module_name}' has no '{attribute}'") from None
    try:
        model: Model = build(spec.num_inputs, spec.num_outputs, **spec.config.options)
    except TypeError as error:
        raise ConfigError(
            f"model.function={function}: calling it with (num_inputs={spec.num_inputs}, "
            f"num_outputs={spec.num_outputs}) and model.options failed: {error}"
        ) from error
    missing = [name for name in ("layout", "init", "gradient_sums", "loss_sums", "predict") if not hasattr(model, name)]
    if missing:
        raise ConfigError(
            f"model.function={function}: what it built has no {', '.join(missing)}; see distbp.nn.model.Model"
        )
    _try_out(model, spec, function)
    return model


def _try_out(model: Model, spec: ModelSpec, function: str) -> None:
    """Refuse a model whose methods do not do what Model says, on two examples of zeros."""
    if not isinstance(model.layout, Layout):
        raise ConfigError(f"model.function={function}: its layout is no distbp.nn.layout.Layout")
    flat, gradient = np.zeros((2, model.layout.num_parameters), spec.dtype)
    views = model.layout.views(flat)
    model.init(views, stream(0, Purpose.INIT))
    x = np.zeros((2, spec.num_inputs), spec.dtype)
    y = np.zeros(2, np.int64) if spec.is_classification else np.zeros((2, spec.num_outputs), spec.dtype)
    with np.errstate(all="ignore"):
        sums = model.gradient_sums(views, x, y, model.layout.views(gradient), stream(0, Purpose.DROPOUT))
        evaluated = model.loss_sums(views, x, y)
        outputs = np.shape(model.predict(views, x))
    if not isinstance(sums, Sums) or not isinstance(evaluated, Sums):
        raise ConfigError(f"model.function={function}: gradient_sums and loss_sums must return distbp.nn.model.Sums")
    if outputs != (2, spec.num_outputs):
        raise ConfigError(
            f"model.function={function}: predict gave {outputs} for 2 examples; expected (2, {spec.num_outputs})"
        )
