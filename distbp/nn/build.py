"""From a recipe's model section to a model: the fully connected network, or the user's own function."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    builder: what config.torch names, where it was given as an object.
    target_units: for each of O scaled targets, what a squared error of 1 is in the users' own units; losses are told
    in these. has_many_labels: each of O targets is 0 or 1.
    """

    config: ModelConfig
    num_inputs: int
    num_outputs: int
    is_classification: bool
    dtype: str
    input_shape: tuple[int, ...] = ()
    integer_inputs: bool = False
    target_shape: tuple[int, ...] = ()
    builder: Callable[..., Any] | None = None
    target_units: tuple[float, ...] | None = None
    has_many_labels: bool = False
    folders: tuple[str, ...] = field(default_factory=find_user_folders, compare=False)

    def pinned(self) -> AbstractContextManager[None]:
        """Return what keeps torch's settings as the model needs them, for as long as it is entered."""
        if self.config.torch is None:
            return nullcontext()
        pinned: AbstractContextManager[None] = _import_process(self.config.torch).pinned()
        return pinned

    def build_calm(self) -> Model:
        """Return a model whose PyTorch module computes gradients as in evaluation, so that examples stand alone."""
        model = self.build()
        if self.config.torch is not None:
            model.calm()  # type: ignore[attr-defined]  # it is a TorchModel
        return model

    def build(self) -> Model:
        """Return a model of its own for one thread.

        Raises ConfigError if the loss does not fit the task or the user's function cannot be had.
        """
        if self.config.loss == "binary_cross_entropy" and not self.has_many_labels:
            raise ConfigError(
                "model.loss=binary_cross_entropy is for several targets that are each one of two classes; leave it out"
            )
        if self.config.torch is not None:
            return _build_torch_model(self)
        if self.config.function is not None:
            with importable(self.folders):
                return _build_user_model(self.config.function, self)
        if self.config.loss == "cross_entropy" and not self.is_classification:
            raise ConfigError(
                "model.loss=cross_entropy needs classes, but the targets are numbers; "
                "use model.loss=squared_error, or data.task=classification if they are classes"
            )
        return build_mlp(
            self.config, self.num_inputs, self.num_outputs, self.is_classification, self.dtype, self.target_units
        )


def import_object(setting: str, name: str) -> Any:
    """Return what `name`, such as my_module:build, stands for. Raises ConfigError if there is no such thing.

    setting: what messages call it, such as model.function.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{setting}={name}: cannot import '{module_name}' ({error}); run where it can be imported"
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        again = "; give it again, as in load_run(run, model=...)" if setting == "model.torch" else ""
        raise ConfigError(f"{setting}={name}: {_describe_place(module)} has no '{attribute}'{again}")
    return found


def check_model(spec: ModelSpec, x: NDArray, y: NDArray, smallest: int) -> None:
    """Try out a PyTorch module on one microbatch. x: (B, I), y: (B,), (B, T) or (B, O), as training has them.

    smallest: number of examples in the smallest microbatch of the run.

    Raises ConfigError if it could not keep the promise.
    """
    if spec.config.torch is not None:
        _import_process(spec.config.torch)
        from distbp.nn.modules.checks import check_module

        with spec.pinned():
            check_module(spec.build(), spec.build(), x, y, smallest)  # type: ignore[arg-type]  # a spec with torch builds TorchModels


def probe_model(spec: ModelSpec, batch_size: int = 7) -> str:
    """Return a SHA-256 over the loss and gradient of the model on a keyed sample: equal where its bits are.

    What differs between processors may be in operations that only the user's own function has.
    """
    model = spec.build()
    parameters, gradient = np.zeros((2, model.layout.num_parameters), spec.dtype)
    model.init(model.layout.views(parameters), stream(0, Purpose.INIT))
    rng = stream(0, Purpose.DROPOUT)
    x, y = _draw_examples(spec, batch_size, rng)
    with np.errstate(all="ignore"), spec.pinned():
        sums = model.gradient_sums(model.layout.views(parameters), x, y, model.layout.views(gradient), rng)
    return hashlib.sha256(np.float64(sums.loss).tobytes() + gradient.tobytes()).hexdigest()


def _draw_examples(spec: ModelSpec, batch_size: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Return inputs (B, I) and targets of the model's kind; whole numbers are 0 and 1, which every embedding has."""
    shape = (batch_size, spec.num_inputs)
    x = rng.integers(0, 2, shape) if spec.integer_inputs else rng.standard_normal(shape)
    if spec.is_classification:
        y: NDArray = rng.integers(0, spec.num_outputs, (batch_size, *spec.target_shape))
    else:
        y = rng.standard_normal((batch_size, spec.num_outputs)).astype(spec.dtype)
        y = (y > 0).astype(spec.dtype) if spec.has_many_labels else y
    return x.astype(spec.dtype), y


def _build_torch_model(spec: ModelSpec) -> Model:
    assert spec.config.torch is not None
    _import_process(spec.config.torch)
    from distbp.nn.modules.building import build_model

    loss = spec.config.loss or ("cross_entropy" if spec.is_classification else "squared_error")
    with importable(spec.folders):
        return build_model(
            spec.builder or import_object("model.torch", spec.config.torch),
            import_object("model.loss", loss) if ":" in loss else loss,
            spec,
        )


def _import_process(name: str) -> ModuleType:
    """Return distbp.nn.modules.process. Raises ConfigError where PyTorch is missing."""
    try:
        return importlib.import_module("distbp.nn.modules.process")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ConfigError(
            f"model.torch={name} needs PyTorch, which is not installed here; pip install 'distbp[torch]'"
        ) from None


def _build_user_model(function: str, spec: ModelSpec) -> Model:
    build = import_object("model.function", function)
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
