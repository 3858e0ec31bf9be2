"""From a recipe's model section to a model: the fully connected network, or the user's own function."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np

from distbp.config import Model as ModelConfig
from distbp.errors import ConfigError
from distbp.nn.layout import Layout
from distbp.nn.mlp import build_mlp
from distbp.nn.model import Model, Sums
from distbp.nn.streams import Purpose, stream


def find_user_folders() -> tuple[str, ...]:
    """Return where a user's own modules may lie: beside the script that runs, and in the current folder."""
    script = str(Path(sys.argv[0]).resolve().parent)
    folders = [script] if script in sys.path else []
    with suppress(OSError):  # the folder was removed
        folders.append(str(Path.cwd()))
    return tuple(folders)


@contextmanager
def importable(folders: Sequence[str]) -> Iterator[None]:
    """Let modules be imported from `folders` inside the block, where nothing of that name is installed."""
    sys.path.extend(folders)
    try:
        yield
    finally:
        for folder in folders:
            del sys.path[-1 - sys.path[::-1].index(folder)]  # the last of that name: another may be there for good


@dataclass(frozen=True)
class ModelSpec:
    """Everything a process needs to build the model: small, plain, and the same everywhere.

    folders: where a model function of the user's own is looked for, besides what is installed.
    """

    config: ModelConfig
    num_inputs: int
    num_outputs: int
    is_classification: bool
    dtype: str
    folders: tuple[str, ...] = field(default_factory=find_user_folders, compare=False)

    def build(self) -> Model:
        """Return a model of its own for one thread.

        Raises ConfigError if the loss does not fit the task or the user's function cannot be had.
        """
        if self.config.function is not None:
            with importable(self.folders):
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
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"model.function={function}: cannot import '{module_name}' ({error}); run where it can be imported"
        ) from error
    build = getattr(module, attribute, None)
    if build is None:
        raise ConfigError(f"model.function={function}: {_describe_place(module)} has no '{attribute}'")
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


def _describe_place(module: ModuleType) -> str:
    """Return a module's name, and its file where one of that name in the current folder may be meant."""
    name, file = module.__name__, getattr(module, "__file__", None) or "built into Python"
    own = Path(f"{name}.py")
    if not own.is_file() or str(own.resolve()) == file:
        return f"'{name}'"
    return f"'{name}' ({file}, which comes before the file '{own}' here; rename that)"


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
