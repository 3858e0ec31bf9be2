"""A PyTorch module as a model: one graph for each microbatch, its gradients and buffers as pure functions of it.

Shape legend: B examples of one microbatch, I inputs, T places in a sequence, K classes, O outputs.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from distbp.errors import ConfigError
from distbp.nn.layout import Layout
from distbp.nn.model import IGNORED, Sums, Views
from distbp.nn.modules import process
from distbp.nn.modules.losses import Losses
from distbp.nn.modules.parts import Parts

T = TypeVar("T")


@dataclass(frozen=True)
class Form:
    """What goes in and comes out of a module.

    input_shape: of one example. integer_inputs: they are whole numbers, such as tokens, and reach the module as int64.
    is_classification: targets are classes, (B,), or (B, T) where the outputs are (B, T, K). num_outputs: K or O;
    target_shape: (T,) or (). per_token: the loss is divided by the number of places that are learned instead of the
    number of examples. has_named_loss: the loss is one of ours, which says what shape the outputs must have.
    target_units: (O,) what each square counts in the loss that is told, where targets are scaled. has_many_labels: each
    output is a class of its own.
    """

    input_shape: tuple[int, ...]
    integer_inputs: bool
    is_classification: bool
    num_outputs: int
    target_shape: tuple[int, ...]
    per_token: bool
    has_named_loss: bool
    dtype: str
    target_units: tuple[float, ...] | None = None
    has_many_labels: bool = False


class TorchModel:
    """The model around one module. Not for two threads at once: each has one of its own.

    Threads of one process share torch's generator: modules that draw take turns, others compute beside each other.
    """

    def __init__(self, make: Callable[[int], torch.nn.Module], losses: Losses, form: Form):
        """make, later `build`: returns a new module whose initial values are drawn from a seed below 2^63."""
        self.build = make
        self._losses = losses
        self.form = form
        with process.computing():
            self.module = module = make(0)
            self._parts = Parts.of(module, form.dtype)
        self._trains = [(part, part.training) for part in module.modules()]
        self._loaded: Mapping[str, NDArray] | None = None
        self._draws = False

    @property
    def layout(self) -> Layout:
        """Parameters first, then frozen ones, then buffers, each in the module's own order."""
        return self._parts.layout

    def init(self, parameters: Views, rng: np.random.Generator) -> None:
        """Write the values of a module that is built with a seed of `rng`."""
        with process.computing():
            Parts.of(self.build(int(rng.integers(1 << 63))), self.form.dtype).write_to(parameters)

    def gradient_sums(
        self,
        parameters: Views,
        x: NDArray,
        y: NDArray,
        gradient: Views,
        rng: np.random.Generator,
        weights: NDArray | None = None,
    ) -> Sums:
        """Overwrite `gradient` with the gradient of the summed loss, and for buffers with their change, times B.

        weights: (B,), what each example's loss counts; then B is their sum.

        What the module draws follows from `rng` alone.

        Raises ConfigError for what the module or its loss cannot do, or must not.
        """
        seed = int(rng.integers(1 << 63))
        with self._explaining(len(x)), process.computing():
            return self._keyed(seed, lambda: self._backprop(parameters, x, y, gradient, weights))

    def loss_sums(self, parameters: Views, x: NDArray, y: NDArray, weights: NDArray | None = None) -> Sums:
        """Return loss, number and correct predictions, with the module as for evaluation."""
        with self._explaining(len(x)), self._evaluating():
            return self._keyed(0, lambda: self._evaluate(parameters, x, y, weights))

    def predict(self, parameters: Views, x: NDArray) -> NDArray:
        """Return (B, K) or (B, T, K) probabilities of classes, or (B, O) values."""
        with self._explaining(len(x)), self._evaluating():
            outputs = self._keyed(0, lambda: self._forward(parameters, x))
            found: NDArray = self._to_answers(outputs).numpy()
        return found

    def _to_answers(self, outputs: torch.Tensor) -> torch.Tensor:
        if self.form.has_many_labels:
            return outputs.sigmoid()
        return outputs.softmax(-1) if self.form.is_classification else outputs

    def calm(self) -> None:
        """Compute gradients from now on as in evaluation: nothing is dropped, and every example stands for itself."""
        self.module.eval()
        self._trains = [(part, False) for part, _ in self._trains]

    def find_changes(self, flat: NDArray) -> list[str]:
        """Return the names of parameters and flags that are not as they were loaded from the flat vector, and built."""
        now = dict(self.module.named_parameters())
        views = self.layout.views(flat)
        kept = {**self._parts.trained, **self._parts.kept}
        found = [name for name, p in kept.items() if now.get(name) is not p or not same_bits(p, views[name])]
        return found + [f"{type(part).__name__}.training" for part, trains in self._trains if part.training != trains]

    def _keyed(self, seed: int, compute: Callable[[], T]) -> T:
        """Return compute(), in which whatever is drawn follows from `seed`."""
        if not self._draws:
            found = process.try_without_drawing(compute)
            if found is not None:
                return found
            self._draws = True  # so this was not the computation that is keyed
        with process.drawing_from(seed):
            return compute()

    def _backprop(self, parameters: Views, x: NDArray, y: NDArray, gradient: Views, weights: NDArray | None) -> Sums:
        outputs, targets = self._forward(parameters, x), self._targets(y)
        losses = self._losses_of(outputs, targets)
        if not losses.requires_grad:
            raise ConfigError(
                "the loss does not depend on the module's parameters; leave out detach(), no_grad() and .data on the "
                "way from the outputs to the loss"
            )
        trained = self._parts.trained
        found = torch.autograd.grad(_weigh(losses, weights).sum(), list(trained.values()), allow_unused=True)
        for (name, parameter), value in zip(trained.items(), found, strict=True):
            _write(gradient[name], name, parameter, value)
        for name in self._parts.kept:
            gradient[name][...] = 0
        count, weight = self._count(targets), self._count_weights(targets, weights)
        for name, buffer in self._parts.buffers.items():
            _write_change(gradient[name], parameters[name], buffer, count if weight is None else weight)
        _check_settings()
        return Sums(self._tell(outputs.detach(), targets, losses.detach(), weights), count, weight=weight)

    def _evaluate(self, parameters: Views, x: NDArray, y: NDArray, weights: NDArray | None) -> Sums:
        outputs, targets = self._forward(parameters, x), self._targets(y)
        loss = self._tell(outputs, targets, self._losses_of(outputs, targets), weights)
        count, weight = self._count(targets), self._count_weights(targets, weights)
        if not self.form.is_classification:
            return Sums(loss, count, weight=weight)
        learned = targets != IGNORED
        hits = (outputs.argmax(-1) == targets) & learned
        if weights is None:
            return Sums(loss, count, int(hits.sum()), int(learned.sum()))
        return Sums(loss, count, _sum(_weigh(hits, weights)), _sum(_weigh(learned, weights)), weight)

    def _forward(self, parameters: Views, x: NDArray) -> torch.Tensor:
        """Return the outputs, computed from the parameters and buffers as they lie in the flat vector."""
        self._load(parameters)
        self._parts.read_buffers_from(parameters)
        dtype = np.int64 if self.form.integer_inputs else x.dtype
        inputs = torch.empty((len(x), *self.form.input_shape), dtype=torch.from_numpy(np.empty(0, dtype)).dtype)
        inputs.numpy()[...] = x.reshape(inputs.shape)  # torch's own memory: aligned the same everywhere
        outputs = self.module(inputs)
        self._check_outputs(outputs, len(x))
        checked: torch.Tensor = outputs
        return checked

    def _check_outputs(self, outputs: object, num_examples: int) -> None:
        """Refuse outputs that are not a row of num_outputs for each example, or each place of a sequence."""
        if not isinstance(outputs, torch.Tensor):
            raise ConfigError(f"the module returned {type(outputs).__name__}; expected one tensor of outputs")
        expected = (num_examples, *self.form.target_shape, self.form.num_outputs)
        if self.form.has_named_loss and tuple(outputs.shape) != expected:
            raise ConfigError(
                f"the module returned outputs of shape {tuple(outputs.shape)} for {num_examples} examples; "
                f"expected {expected}"
            )

    def _targets(self, y: NDArray) -> torch.Tensor:
        return torch.from_numpy(y.astype(np.int64) if self.form.is_classification else y.copy())

    def _count(self, targets: torch.Tensor) -> int:
        """Return what the sums are divided by."""
        return int((targets != IGNORED).sum()) if self.form.per_token else len(targets)

    def _losses_of(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return losses, which must be one for each example or each place."""
        losses = self._losses(outputs, targets)
        if not isinstance(losses, torch.Tensor):
            raise ConfigError(f"the loss returned {type(losses).__name__}; expected a tensor with one loss per example")
        if losses.ndim == 0 or losses.shape[0] != len(targets):
            raise ConfigError(
                f"the loss has shape {tuple(losses.shape)} for {len(targets)} examples; return one loss per example, "
                "neither summed nor averaged (reduction='none')"
            )
        if tuple(losses.shape) not in ((len(targets),), tuple(targets.shape)):
            raise ConfigError(
                f"the loss has shape {tuple(losses.shape)} for targets of shape {tuple(targets.shape)}; expected "
                f"({len(targets)},), or the targets' own; was something broadcast?"
            )
        return losses

    def _count_weights(self, targets: torch.Tensor, weights: NDArray | None) -> float | None:
        """Return the sum of the weights of the examples, or of the places that are learned."""
        if weights is None:
            return None
        return _sum(_weigh(targets != IGNORED, weights)) if self.form.per_token else float(weights.sum())

    def _tell(
        self, outputs: torch.Tensor, targets: torch.Tensor, losses: torch.Tensor, weights: NDArray | None
    ) -> float:
        """Return the sum of the losses, in the users' units where targets are scaled and the loss is our squares."""
        units = self.form.target_units
        if units is None or not self.form.has_named_loss:
            return _sum(_weigh(losses, weights))
        squares = (outputs.double() - targets.double()).square()
        return _sum(_weigh((squares * torch.tensor(units, dtype=torch.float64)).sum(1), weights))

    def _load(self, parameters: Views) -> None:
        """Copy parameters into the module, once for each state of them: a mapping stands for one state."""
        if self._loaded is not parameters:
            self._parts.read_from(parameters)
            self._loaded = parameters

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        self.module.eval()
        try:
            with process.computing(), torch.no_grad():
                yield
        finally:
            for part, trains in self._trains:
                part.training = trains

    @contextmanager
    def _explaining(self, num_examples: int) -> Iterator[None]:
        """Translate whatever the user's code raises into one sentence."""
        try:
            yield
        except (ConfigError, MemoryError):
            raise
        except Exception as error:
            raise explain(error, self.module, num_examples) from error


def same_bits(tensor: torch.Tensor, values: NDArray) -> bool:
    """Return whether a tensor holds exactly these values."""
    return bool(tensor.detach().contiguous().numpy().tobytes() == values.tobytes())


def explain(error: Exception, module: torch.nn.Module, num_examples: int) -> ConfigError:
    """Return the sentence for what a forward or backward pass raised."""
    text = (str(error).splitlines() or [""])[0]
    if "deterministic" in text:
        return ConfigError(
            f"the module uses {text.split(' ')[0]}, an operation that has no deterministic form, so its gradients "
            "could differ from run to run; replace it"
        )
    where = _find_part(error, module)
    if isinstance(error, IndexError) and "index out of range in self" in text:
        text = "a token is not below its number of embeddings; make the embedding larger or the tokens smaller"
    return ConfigError(f"the module failed{where} on {num_examples} examples: {type(error).__name__}: {text}")


def _find_part(error: Exception, module: torch.nn.Module) -> str:
    """Return the innermost part of the module that was computing when the error was raised, as ` in 'name'`."""
    names = {id(part): f"'{name}' ({type(part).__name__})" for name, part in module.named_modules() if name}
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    found = [names[id(part)] for part in (frame.f_locals.get("self") for frame in frames) if id(part) in names]
    return f" in {found[-1]}" if found else ""


def _write(gradient: NDArray, name: str, parameter: torch.Tensor, value: torch.Tensor | None) -> None:
    if value is None:  # the loss does not depend on it
        gradient[...] = 0
        return
    if value.is_sparse:
        raise ConfigError(f"the gradient of '{name}' is sparse; build it with sparse=False")
    gradient[...] = value.reshape(parameter.shape).numpy()


def _write_change(gradient: NDArray, before: NDArray, buffer: torch.Tensor, count: float) -> None:
    """Write count times what the forward pass added; exactly 0 where nothing changed, also for what is infinite."""
    after = buffer.detach().to(torch.from_numpy(before).dtype).numpy()
    np.subtract(after, before, out=gradient, where=after != before)
    gradient[after == before] = 0
    gradient *= count


def _weigh(values: torch.Tensor, weights: NDArray | None) -> torch.Tensor:
    """Return values (B,) or (B, T) times the weight of their example."""
    if weights is None:
        return values
    factors = torch.from_numpy(np.array(weights))
    if values.is_floating_point():
        factors = factors.to(values.dtype)
    return values * factors.reshape(-1, *[1] * (values.ndim - 1))


def _sum(losses: torch.Tensor) -> float:
    return float(losses.sum(dtype=torch.float64))


def _check_settings() -> None:
    changes = process.find_changes()
    if changes:
        raise ConfigError(
            f"the module or its loss changes torch's {', '.join(changes)}; leave it to distbp, which sets it so that "
            "every worker computes the same bytes"
        )
