from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from distbp import Placement, Recipe, Result, train
from distbp.backends import make_backend
from distbp.backends.local import LocalBackend
from distbp.config import Config
from distbp.data import prepare
from distbp.nn.digests import digest
from distbp.protocol.messages import StepReport, TrainState
from distbp.protocol.planning import step_order
from distbp.protocol.rounds import next_order
from distbp.training.plan import Plan, make_plan

NUM_EXAMPLES, NUM_INPUTS, NUM_CLASSES = 230, 6, 3
ROUNDS = {"steps": 2, "replicas": 3, "outer": {"learning_rate": 0.7, "momentum": 0.9, "nesterov": True}}
PLAIN = {"learning_rate": 1.0, "momentum": 0.0, "nesterov": False}


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """230 training and 70 validation examples of three noisy classes, sorted by class, as files often are."""
    rng = np.random.default_rng(0)
    y = np.sort(rng.integers(0, NUM_CLASSES, NUM_EXAMPLES))
    centers = rng.standard_normal((NUM_CLASSES, NUM_INPUTS))
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "toy.npz", x=centers[y] + rng.standard_normal((NUM_EXAMPLES, NUM_INPUTS)), y=y)
    y = rng.integers(0, NUM_CLASSES, 70)
    np.savez(folder / "held-out.npz", x=centers[y] + rng.standard_normal((70, NUM_INPUTS)), y=y)
    return folder


@pytest.fixture
def make_recipe(toy_data: Path) -> Callable[..., Recipe]:
    """Returns a recipe of 3 epochs of 5 steps in rounds of 2, in which nothing divides anything.

    Batches of 50 examples are cut into 8 microbatches, the last of 1, the last batch of 30 into 5.
    """

    def make(**fields: object) -> Recipe:
        values = {
            "data": {"source": str(toy_data / "toy.npz"), "validation": str(toy_data / "held-out.npz")},
            "model": {"hidden": [7, 5]},
            "optimizer": {"learning_rate": 0.05},
            "rounds": ROUNDS,
            "global_batch_size": 50,
            "microbatch_size": 7,
            "epochs": 3,
        }
        return Recipe.model_validate({**values, **fields})

    return make


@dataclass(frozen=True)
class Trained:
    """How a plan ended on the local backend."""

    state: TrainState
    reports: list[StepReport]

    @property
    def digest(self) -> str:
        return digest(self.state.parameters)


@pytest.fixture
def make_run() -> Callable[..., Trained]:
    """Trains a recipe with workers that are threads of their own, however small the network is."""

    def call(recipe: Recipe, num_workers: int = 1, threads_per_worker: int = 1) -> Trained:
        placement = Placement(threads_per_worker=threads_per_worker)
        plan = make_plan(Config(recipe=recipe, placement=placement), prepare(recipe.data, recipe.seed))
        backend = LocalBackend(num_workers, num_threads=num_workers)
        try:
            backend.start(plan.worker, plan.server, plan.initial_state())
            reports = list(backend.run(orders(plan)))
            return Trained(backend.snapshot().state, reports)
        finally:
            backend.close()

    return call


def orders(plan: Plan) -> Iterator:
    step = 0
    while step < plan.num_steps:
        order = next_order(plan.recipe, step, len(plan.worker.train))
        step = order.end
        yield order


def train_with_resets(recipe: Recipe, ends: Sequence[int], counts_anew: bool) -> TrainState:
    """Step-wise training whose optimizer begins anew after the steps in `ends`: no rounds are involved.

    counts_anew: also the steps, of which AdamW's bias correction takes the number, and dropout its key.
    """
    plan = make_plan(Config(recipe=recipe), prepare(recipe.data, recipe.seed))
    state = plan.initial_state()
    for start, stop in pairwise([0, *ends]):
        first = 0 if counts_anew else start
        found = (step_order(recipe, step, len(plan.worker.train)) for step in range(start, stop))
        renumbered = (replace(order, step=first + number) for number, order in enumerate(found))
        zeros = tuple(np.zeros_like(moment) for moment in state.moments)
        backend = LocalBackend(1)
        try:
            backend.start(plan.worker, plan.server, TrainState(first, state.parameters, zeros))
            assert len(list(backend.run(renumbered))) == stop - start
            state = backend.snapshot().state
        finally:
            backend.close()
    return state


@pytest.fixture
def train_toy(make_recipe, tmp_path) -> Callable[..., Result]:
    """Trains `name` by the toy recipe, or by another; further fields are the placement's."""

    def call(name: str = "run", recipe: Recipe | None = None, observe=None, connect=make_backend, **fields) -> Result:
        placement = Placement.model_validate({"storage": str(tmp_path / "runs"), **fields})
        return train(recipe or make_recipe(), placement, name=name, observe=observe, connect=connect)

    return call
