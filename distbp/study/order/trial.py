"""One training run of the order study: it keeps its parameters along the way, so that runs can be compared."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distbp.config import Recipe
from distbp.lab.trial import error_of, plan_for, reseed, start_one_worker
from distbp.nn.digests import digest
from distbp.protocol.messages import TrainState, WorkerTask
from distbp.protocol.supply import in_memory


@dataclass(frozen=True)
class OrderTrial:
    """A run of `recipe` to the last of `steps` (ascending, the first is 0), where its parameters are kept.

    init_seed, order_seed: of initial weights, and of the order of the examples (and of dropout).
    flipped: the index of the initial parameter whose lowest bit is flipped, None for none.
    """

    recipe: Recipe
    steps: tuple[int, ...]
    init_seed: int
    order_seed: int
    flipped: int | None = None


@dataclass(frozen=True)
class OrderResult:
    """parameters: the float32 vector at each kept step, in base64. predictions: of the validation examples, at the end.

    digest: SHA-256 of the final parameters in their own dtype. Fewer parameters than steps: it diverged.
    """

    parameters: tuple[str, ...]
    digest: str
    error: float
    predictions: str

    def vectors(self) -> list[NDArray[np.float32]]:
        """Return the parameters at each kept step, (P,) each."""
        return [np.frombuffer(base64.b64decode(text), np.float32) for text in self.parameters]

    def classes(self) -> NDArray[np.int32]:
        """Return the class predicted for each validation example, (N,)."""
        return np.frombuffer(base64.b64decode(self.predictions), np.int32)


def run_order_trial(trial: OrderTrial) -> OrderResult:
    """Train and return what is compared."""
    plan = reseed(plan_for(trial.recipe), trial.init_seed, trial.order_seed)
    state = plan.initial_state()
    if trial.flipped is not None:
        state = flip_bit(state, trial.flipped)
    kept: list[str] = []
    with start_one_worker(plan, state) as backend:
        reports = backend.run(map(plan.order, range(trial.steps[-1])))
        done = 0
        for step in trial.steps:
            while done < step and (report := next(reports)).committed:
                done = report.step
            if done < step:
                break
            kept.append(_encode(backend.snapshot().state.parameters.astype(np.float32)))
        final = backend.snapshot().state.parameters
        error = error_of(backend.evaluate())
    return OrderResult(tuple(kept), digest(final), error, _encode(_predict(plan.worker, final)))


def flip_bit(state: TrainState, index: int) -> TrainState:
    """Return `state` with the lowest bit of one parameter flipped: the smallest change there is."""
    parameters = state.parameters.copy()
    bits = parameters.view(np.uint32 if parameters.itemsize == 4 else np.uint64)
    bits[index] ^= 1
    return replace(state, parameters=parameters)


def _predict(task: WorkerTask, parameters: NDArray) -> NDArray[np.int32]:
    """Return the predicted classes of the validation examples, (N,), or of all places of their sequences."""
    assert task.validation is not None  # checked before the study starts
    model = task.model.build()
    validation = in_memory(task.validation).ready(task.model.dtype)
    views = model.layout.views(parameters)
    outputs = [
        model.predict(views, validation.take(slice(start, start + 256), task.model.dtype)[0]).copy()
        for start in range(0, len(validation), 256)
    ]
    classes: NDArray[np.int32] = np.concatenate(outputs).argmax(axis=-1).ravel().astype(np.int32)
    return classes


def _encode(array: NDArray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
