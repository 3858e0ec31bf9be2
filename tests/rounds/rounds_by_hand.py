"""What the tests of rounds share: a plan's orders, and step-wise training that begins anew where a round would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from distbp import Recipe
from distbp.backends.local import LocalBackend
from distbp.config import Config
from distbp.data import prepare
from distbp.nn.digests import digest
from distbp.protocol.messages import StepOrder, StepReport, TrainState
from distbp.protocol.planning import step_order
from distbp.protocol.rounds import next_order
from distbp.training.plan import Plan, make_plan

ROUNDS = {"steps": 2, "replicas": 3, "outer": {"learning_rate": 0.7, "momentum": 0.9, "nesterov": True}}
PLAIN = {"learning_rate": 1.0, "momentum": 0.0, "nesterov": False}


@dataclass(frozen=True)
class Trained:
    """How a plan ended on the local backend."""

    state: TrainState
    reports: list[StepReport]

    @property
    def digest(self) -> str:
        return digest(self.state.parameters)


def orders(plan: Plan) -> Iterator[StepOrder]:
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
