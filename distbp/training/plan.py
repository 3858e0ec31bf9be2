"""What a run is going to do: recipe and data joined, checked, and turned into tasks for the roles."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from distbp.config import Config, Placement, Recipe
from distbp.data import PreparedData, Schema
from distbp.data.fingerprint import DataFingerprint, fingerprint
from distbp.errors import ConfigError
from distbp.nn.blas import compute_exactly, fixed_arithmetic
from distbp.nn.build import ModelSpec
from distbp.nn.layout import Layout
from distbp.nn.schedules import batch_scale
from distbp.nn.streams import Purpose, stream
from distbp.protocol.messages import ServerTask, TrainState, WorkerTask
from distbp.protocol.planning import choose_slices, num_local_threads, steps_per_epoch

logger = logging.getLogger("distbp")


@dataclass(frozen=True)
class Plan:
    """A recipe that fits its data. num_steps: of the whole run."""

    recipe: Recipe
    data: PreparedData
    schema: Schema
    layout: Layout
    worker: WorkerTask
    server: ServerTask
    steps_per_epoch: int
    num_steps: int

    @cached_property
    def fingerprint(self) -> DataFingerprint:
        """The fingerprint of the data, taken when it is first asked for: it reads all of them."""
        return fingerprint(self.data)

    @property
    def digest(self) -> str:
        """SHA-256 of recipe and data together: two plans have the same only if they train the same numbers."""
        return hashlib.sha256(f"{self.recipe.digest} {self.fingerprint}".encode()).hexdigest()

    def describe(self) -> str:
        """Return in one line what is going to be trained on what."""
        recipe, spec = self.recipe, self.worker.model
        sizes = [spec.num_inputs, *recipe.model.hidden, spec.num_outputs]
        network = recipe.model.function or f"{'-'.join(map(str, sizes))} {recipe.model.activation}"
        return (
            f"{network} ({self.layout.num_parameters:,} parameters) on {len(self.worker.train):,} examples of "
            f"'{recipe.data.source}', {self.num_steps:,} steps of {recipe.global_batch_size}"
        )

    def initial_state(self) -> TrainState:
        """Return the state before the first step: drawn parameters, no velocity."""
        parameters = compute_exactly(self._draw_parameters)
        return TrainState(0, parameters, np.zeros_like(parameters))

    def _draw_parameters(self) -> NDArray:
        parameters = np.zeros(self.layout.num_parameters, self.recipe.dtype)
        model = self.worker.model.build()
        model.init(self.layout.views(parameters), stream(self.recipe.seed, Purpose.INIT))
        return parameters


def model_spec(recipe: Recipe, schema: Schema) -> ModelSpec:
    """Return what builds the recipe's model for data of this schema."""
    return ModelSpec(recipe.model, schema.num_inputs, schema.num_outputs, schema.task == "classification", recipe.dtype)


@fixed_arithmetic()
def make_plan(config: Config, data: PreparedData) -> Plan:
    """Return the plan. Raises ConfigError where the recipe's sizes or loss do not fit the data."""
    recipe = config.recipe
    num_examples = len(data.train)
    if recipe.global_batch_size > num_examples:
        raise ConfigError(
            f"global_batch_size={recipe.global_batch_size} is larger than the {num_examples} training examples "
            f"in '{recipe.data.source}'; use at most {num_examples}"
        )
    spec = model_spec(recipe, data.schema)
    layout = spec.build().layout
    num_steps = steps_per_epoch(recipe, num_examples)
    _report_scaling(recipe)
    return Plan(
        recipe=recipe,
        data=data,
        schema=data.schema,
        layout=layout,
        worker=WorkerTask(
            spec, data.train, data.validation, recipe.seed, recipe.microbatch_size, config.placement.threads_per_worker
        ),
        server=ServerTask(recipe.optimizer, layout.decayed_ranges()),
        steps_per_epoch=num_steps,
        num_steps=num_steps * recipe.epochs,
    )


def describe_placement(placement: Placement, plan: Plan) -> str:
    """Return in a few words where the run happens, with what `servers: auto` chose."""
    low, high = placement.min_workers, placement.max_workers
    workers = (f"{high}" if low == high else f"{low} to {high}") + f" worker{'s' if high > 1 else ''}"
    num_parameters = plan.layout.num_parameters
    if placement.backend == "local":
        threads = num_local_threads(num_parameters, plan.recipe.microbatch_size, high)
        return f"{workers} in this process" + ("" if threads == high else f" (threads: {threads})")
    servers = len(choose_slices(placement.servers, num_parameters, high))
    return f"{workers} on Ray, {servers} of them parameter server{'s' if servers > 1 else ''} too"


def _report_scaling(recipe: Recipe) -> None:
    """Nothing is scaled silently."""
    schedule, rate, scale = recipe.schedule, recipe.optimizer.learning_rate, batch_scale(recipe)
    if schedule.lr_scaling != "none":
        logger.info(
            "learning rate %g x %g = %g (%s scaling: global_batch_size %d / reference_batch_size %d)",
            rate, scale, rate * scale, schedule.lr_scaling, recipe.global_batch_size, schedule.reference_batch_size,
        )  # fmt: skip
