"""A stored run's steps, computed again in this process by one worker: from a checkpoint, or from the beginning."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Self

from distbp.backends.local import LocalBackend
from distbp.config import Config, Placement, Recipe
from distbp.data import prepare
from distbp.errors import CheckpointError
from distbp.nn.blas import one_blas_thread
from distbp.protocol.messages import Evaluation, Partial, Shard, StepOrder, StepReport, TrainState
from distbp.protocol.worker import Worker
from distbp.run import CheckpointStore, RunDirectory
from distbp.training.checkpoint_contents import check_data, check_recipe, unpack
from distbp.training.plan import Plan, make_plan

logger = logging.getLogger("distbp")


class Replay:
    """What a run has stored, and the plan that it followed. store: its checkpoints."""

    def __init__(self, run: RunDirectory, source: str | None = None) -> None:
        """Read the run's data, from `source` where they lie elsewhere now.

        Raises DataError if there are none, CheckpointError if they are not those that the run started with.
        """
        self.run = run
        self.store = CheckpointStore(run, keep=1)
        recipe = _with_source(run.read_config().recipe, source)
        self.plan = make_plan(Config(recipe=recipe, placement=Placement()), prepare(recipe.data, recipe.seed))
        stored = self.store.newest_data()
        if stored is not None:
            check_data(self.plan, stored)

    def load(self, step: int) -> TrainState:
        """Return the state in the checkpoint of `step`; raises CheckpointError unless it is whole, and of this run."""
        checkpoint = self.store.load(step)
        check_recipe(self.run, checkpoint)
        return unpack(self.plan, checkpoint)[0]

    def start_for(self, step: int) -> TrainState:
        """Return the newest state that is stored, of at most `step` steps; the one of no steps where none is."""
        for stored in reversed(self.store.list_steps()):
            if stored <= step:
                try:
                    return self.load(stored)
                except CheckpointError as error:
                    logger.warning("%s; an older one is used", error)
        return self.plan.initial_state()


class Walk:
    """Goes on from a state step by step; to be entered, which pins this process's arithmetic as training does."""

    def __init__(self, plan: Plan, state: TrainState) -> None:
        self._plan = plan
        self._step = state.step
        self._backend = LocalBackend(1, num_threads=1)
        self._first = state

    def __enter__(self) -> Self:
        self._backend.start(self._plan.worker, self._plan.server, self._first)
        return self

    def __exit__(self, *_: object) -> None:
        self._backend.close()

    def to(self, step: int) -> Iterator[StepReport]:
        """Compute the steps up to `step`, or to the end of its round, and yield what each reports."""
        for report in self._backend.run(self._orders(step)):
            self._step = report.step
            yield report

    def _orders(self, stop: int) -> Iterator[StepOrder]:
        """Yield the orders up to `stop` steps; the last round may end behind it."""
        step = self._step
        while step < stop:
            order = self._plan.order(step)
            step = order.end
            yield order

    def evaluate(self) -> Evaluation:
        """Return loss and accuracy over the validation part where it stands."""
        return self._backend.evaluate()

    @property
    def state(self) -> TrainState:
        """A copy of the state where it stands."""
        return self._backend.snapshot().state


class Microbatches:
    """The microbatches of the step that follows a state, one by one; to be entered like a walk."""

    def __init__(self, plan: Plan, state: TrainState) -> None:
        self._parameters = state.parameters
        self._order = plan.order(state.step)
        self._worker = Worker(replace(plan.worker, num_threads=1))
        self._model = plan.worker.model
        self._stack = ExitStack()
        self.cut = (self._order.stop - self._order.start, plan.recipe.microbatch_size)

    def __len__(self) -> int:
        return self._order.num_microbatches

    def __enter__(self) -> Self:
        self._stack.enter_context(one_blas_thread())
        self._stack.enter_context(self._model.pinned())
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()
        self._stack.close()

    def compute(self, number: int) -> Partial:
        """Return the sums of one microbatch, counted from 0; valid until the next call."""
        (partial,) = self._worker.compute(self._parameters, self._order, Shard(number, number + 1, len(self))).partials
        return partial


def _with_source(recipe: Recipe, source: str | None) -> Recipe:
    if source is None:
        return recipe
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"source": source})})
