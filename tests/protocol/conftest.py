from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from distbp.backends.local import LocalBackend
from distbp.config import Recipe
from distbp.nn.blas import one_blas_thread
from distbp.nn.build import ModelSpec
from distbp.nn.digests import digest
from distbp.nn.streams import Purpose, stream
from distbp.protocol.examples import Examples
from distbp.protocol.messages import ServerTask, ShardResult, StepOrder, StepReport, TrainState, WorkerTask
from distbp.protocol.planning import shards, step_order, steps_per_epoch
from distbp.protocol.server import ParameterServer
from distbp.protocol.worker import Worker
from distbp.training.plan import server_task

NUM_INPUTS, NUM_OUTPUTS = 6, 3


@dataclass(frozen=True)
class Problem:
    """A recipe joined with a few drawn examples."""

    recipe: Recipe
    examples: Examples

    @property
    def model(self) -> ModelSpec:
        is_classification = self.examples.y.ndim == 1
        return ModelSpec(self.recipe.model, NUM_INPUTS, NUM_OUTPUTS, is_classification, self.recipe.dtype)

    @property
    def server_task(self) -> ServerTask:
        recipe = self.recipe
        return server_task(recipe, self.model.build().layout)

    @property
    def num_steps(self) -> int:
        return self.recipe.epochs * steps_per_epoch(self.recipe, len(self.examples))

    def worker_task(self, num_threads: int = 1) -> WorkerTask:
        recipe = self.recipe
        return WorkerTask(self.model, self.examples, self.examples, recipe.seed, recipe.microbatch_size, num_threads)

    def initial_state(self) -> TrainState:
        model = self.model.build()
        parameters = np.zeros(model.layout.num_parameters, self.recipe.dtype)
        model.init(model.layout.views(parameters), stream(self.recipe.seed, Purpose.INIT))
        return TrainState(0, parameters, (np.zeros_like(parameters),))

    def orders(self) -> Iterator[StepOrder]:
        return (self.order(step) for step in range(self.num_steps))

    def order(self, step: int) -> StepOrder:
        return step_order(self.recipe, step, len(self.examples))

    def compute(self, parameters: NDArray, order: StepOrder, num_workers: int = 1) -> list[ShardResult]:
        """The results of fresh workers for one step."""
        found = shards(order.num_microbatches, num_workers)
        return [Worker(self.worker_task()).compute(parameters, order, shard) for shard in found]

    def server(self) -> ParameterServer:
        return ParameterServer(self.server_task, self.initial_state())

    def train(self, num_workers: int = 1, num_threads: int = 1) -> tuple[str, list[StepReport]]:
        """The final parameters' digest and the reports of a whole run on the local backend."""
        backend = LocalBackend(num_workers, num_threads=num_workers)
        try:
            backend.start(self.worker_task(num_threads), self.server_task, self.initial_state())
            reports = list(backend.run(self.orders()))
            return digest(backend.snapshot().state.parameters), reports
        finally:
            backend.close()


@pytest.fixture
def make_problem() -> Callable[..., Problem]:
    """Returns a problem for the given fields of the recipe, in which nothing divides anything.

    Batches of 100, 100 and 30 examples are cut into 15, 15 and 5 microbatches, the last of 2.
    """

    def make(num_examples: int = 230, is_classification: bool = True, **fields: object) -> Problem:
        recipe = Recipe.model_validate(
            {"model": {"hidden": [7, 5]}, "global_batch_size": 100, "microbatch_size": 7, "epochs": 2, **fields}
        )
        rng = np.random.default_rng(num_examples)
        x = rng.standard_normal((num_examples, NUM_INPUTS))
        wide = rng.standard_normal((num_examples, NUM_OUTPUTS))
        y = wide.argmax(axis=1) if is_classification else wide
        return Problem(recipe, Examples(x, y, np.arange(num_examples)))

    return make


@pytest.fixture(autouse=True, scope="module")
def _one_blas_thread() -> Iterator[None]:
    with one_blas_thread():
        yield
