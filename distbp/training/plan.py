"""What a run is going to do: recipe and data joined, checked, and turned into tasks for the roles."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.config import Config, Placement, Recipe
from distbp.config.settling import settle
from distbp.data import PreparedData, Schema
from distbp.data.fingerprint import DataFingerprint, fingerprint
from distbp.errors import ConfigError, DataError
from distbp.nn.blas import compute_exactly, fixed_arithmetic
from distbp.nn.build import ModelSpec, check_model
from distbp.nn.layout import Layout
from distbp.nn.schedules import batch_scale
from distbp.nn.streams import Purpose, stream
from distbp.protocol.examples import Examples
from distbp.protocol.messages import ServerTask, StepOrder, TrainState, WorkerTask
from distbp.protocol.planning import (
    choose_slices,
    num_local_threads,
    steps_per_epoch,
)
from distbp.protocol.rounds import next_order
from distbp.training.initial import load_initial
from distbp.training.plan_data import along_run, count_fewest, find_extent, take_first
from distbp.training.rounds import (
    check_rounds,
    describe_idle,
    describe_rounds,
    moment_names,
    outer_server_task,
    rounds_task,
    step_server_task,
)

logger = logging.getLogger("distbp")

Builder = Callable[..., Any]
"""Makes a torch.nn.Module, as model.torch names it."""


@dataclass(frozen=True)
class Start:
    """What a run begins with: parameters and the optimizer's moments, each (num_parameters,); no moments: zeros."""

    parameters: NDArray
    moments: tuple[NDArray, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A recipe that fits its data.

    num_steps: of the whole run. initial: the weights to start from, (num_parameters,), where the recipe names some or
    the caller gave them; moments: of the optimizer, as in `Start`.
    """

    recipe: Recipe
    data: PreparedData
    schema: Schema
    layout: Layout
    worker: WorkerTask
    server: ServerTask
    steps_per_epoch: int
    num_steps: int
    initial: NDArray | None = None
    moments: tuple[NDArray, ...] = ()

    @cached_property
    def fingerprint(self) -> DataFingerprint:
        """The fingerprint of the data, taken when it is first asked for: it reads all of them."""
        return fingerprint(self.data)

    @property
    def digest(self) -> str:
        """SHA-256 of recipe and data together: two plans have the same only if they train the same numbers."""
        return hashlib.sha256(f"{self.recipe.digest} {self.fingerprint}".encode()).hexdigest()

    def order(self, step: int) -> StepOrder:
        """Return the order that goes on from `step`, counted from 0: for that step, or for the round it begins."""
        train = self.worker.train
        return next_order(self.recipe, step, len(train), has_lanes=not isinstance(train, Examples))

    def describe(self) -> str:
        """Return in one line what is going to be trained on what."""
        recipe, spec = self.recipe, self.worker.model
        sizes = [spec.num_inputs, *recipe.model.hidden, spec.num_outputs]
        own = recipe.model.torch or recipe.model.function
        network = own or f"{'-'.join(map(str, sizes))} {recipe.model.activation}"
        rounds = describe_rounds(recipe, self.steps_per_epoch)
        return (
            f"{network} ({self.layout.num_parameters:,} parameters) on {len(self.worker.train):,} examples of "
            f"'{recipe.data.source}', {self.num_steps:,} steps of {recipe.global_batch_size}{rounds}"
        )

    def check_model(self) -> None:
        """Raise ConfigError if a model of the user's own, tried on the first microbatch, could not keep the promise."""
        _check_whole_numbers(self.worker)
        if self.worker.model.config.torch is not None:
            x, y = take_first(self.worker, self.recipe)
            check_model(self.worker.model, x, y, count_fewest(self.worker, self.recipe))

    def initial_state(self) -> TrainState:
        """Return the state before the first step: drawn parameters, moments of zeros."""
        given = self.initial
        parameters = initial_parameters(self.recipe, self.worker.model) if given is None else given.copy()
        moments = self.moments or tuple(np.zeros_like(parameters) for _ in moment_names(self.recipe))
        return TrainState(0, parameters, tuple(moment.copy() for moment in moments))


def initial_parameters(recipe: Recipe, spec: ModelSpec) -> NDArray:
    """Return the parameters before the first step, (num_parameters,): drawn, or what model.initial holds."""
    model = spec.build()
    if recipe.model.initial is not None:
        return load_initial(recipe.model.initial, model.layout, recipe.dtype)

    def draw() -> NDArray:
        parameters = np.zeros(model.layout.num_parameters, spec.dtype)
        model.init(model.layout.views(parameters), stream(recipe.seed, Purpose.INIT))
        return parameters

    return compute_exactly(draw)


def model_spec(recipe: Recipe, schema: Schema, builder: Builder | None = None) -> ModelSpec:
    """Return what builds the recipe's model for data of this schema. builder: the object that model.torch names."""
    if schema.target_shape and recipe.model.torch is None:
        raise ConfigError(
            f"each example has a sequence of {schema.target_shape[0]} classes, which the built-in network does not "
            "learn; name a module of your own as model.torch, or of one-hot rows store the number of the column "
            "that is 1"
        )
    return ModelSpec(
        recipe.model,
        schema.num_inputs,
        schema.num_outputs,
        schema.task == "classification",
        recipe.dtype,
        schema.input_shape,
        schema.integer_inputs,
        schema.target_shape,
        builder,
        target_units=_units_of(schema),
        has_many_labels=schema.labels is not None,
    )


def _units_of(schema: Schema) -> tuple[float, ...] | None:
    """Return the squares of the users' units that the network's unit is, for each target."""
    scale = schema.targets.scale
    return None if scale is None else tuple((1 / scale**2).tolist())


def name_builder(recipe: Recipe, builder: Builder) -> Recipe:
    """Return the recipe with the builder's own name as model.torch.

    Raises ConfigError if it has none, or the recipe names another one.
    """
    module, name = getattr(builder, "__module__", None), getattr(builder, "__name__", "")
    if not callable(builder) or not module or not name.isidentifier():
        raise ConfigError(
            f"model={builder!r:.80} has no name that a run could record; give a function that is made with def, or a "
            "class"
        )
    if recipe.model.torch not in (None, f"{module}:{name}"):
        raise ConfigError(f"model={module}:{name} is given, but the recipe has model.torch={recipe.model.torch}")
    named = {**recipe.model.model_dump(exclude_unset=True), "torch": f"{module}:{name}"}
    return recipe.model_copy(update={"model": type(recipe.model).model_validate(named)})


def server_task(recipe: Recipe, layout: Layout) -> ServerTask:
    """Return what the recipe's servers need for a model of this layout."""
    return (step_server_task if recipe.rounds.steps is None else outer_server_task)(recipe, layout)


@fixed_arithmetic()
def make_plan(config: Config, data: PreparedData, builder: Builder | None = None, start: Start | None = None) -> Plan:
    """Return the plan. builder: of the PyTorch module, where it is given as an object. start: None: as the recipe says.

    Raises ConfigError where the recipe's sizes or loss do not fit the data, or there are no weights to start from.
    """
    recipe, data = settle_with(config.recipe, data)
    num_examples = len(data.train)
    if recipe.global_batch_size < config.recipe.global_batch_size:
        logger.info(
            "global_batch_size=%d is larger than the %d training examples in '%s', so a batch is all of them",
            config.recipe.global_batch_size, num_examples, recipe.data.source,
        )  # fmt: skip
    if isinstance(data.train, Examples) and data.train.weights is not None and recipe.model.function is not None:
        raise ConfigError(
            f"model.function={recipe.model.function} computes gradients of its own, which know no weights; leave out "
            "data.weight and data.class_weights, or name a module as model.torch"
        )
    spec = model_spec(recipe, data.schema, builder)
    layout = spec.build().layout
    start = start or _load_start(recipe, layout)
    num_steps = steps_per_epoch(recipe, num_examples)
    check_rounds(recipe, num_steps, data.train)
    _check_validation_weights(data)
    data = along_run(data, config.model_copy(update={"recipe": recipe}), num_steps * recipe.epochs)
    _report_scaling(recipe)
    return Plan(
        recipe=recipe,
        data=data,
        schema=data.schema,
        layout=layout,
        worker=WorkerTask(
            spec,
            data.train,
            data.validation,
            recipe.seed,
            recipe.microbatch_size,
            config.placement.threads_per_worker,
            rounds_task(recipe, layout),
        ),
        server=server_task(recipe, layout),
        steps_per_epoch=num_steps,
        num_steps=num_steps * recipe.epochs,
        initial=None if start is None else start.parameters,
        moments=() if start is None else start.moments,
    )


def _load_start(recipe: Recipe, layout: Layout) -> Start | None:
    initial = recipe.model.initial
    return None if initial is None else Start(load_initial(initial, layout, recipe.dtype))


def _check_validation_weights(data: PreparedData) -> None:
    """Raise DataError where every validation example counts nothing: no mean could be told."""
    held_out = data.validation
    weights = held_out.take_weights(slice(None)) if isinstance(held_out, Examples) and len(held_out) else None
    if weights is not None and not weights.any():
        raise DataError("the validation examples all weigh 0, so nothing can be told of them; hold out others")


def settle_with(recipe: Recipe, data: PreparedData) -> tuple[Recipe, PreparedData]:
    """Return the recipe without anything left open, and the data as it takes them."""
    chosen = recipe.data if recipe.data.columns is None else data.data
    settled = settle(recipe.model_copy(update={"data": chosen}), data.facts())
    if settled.data.target_scaling == "standard" and data.schema.targets.scale is None and data.facts().is_regression:
        data = data.scale_targets()
    return settled, data


def _check_whole_numbers(task: WorkerTask) -> None:
    """Refuse tokens that the recipe's dtype cannot hold: inputs pass through it on their way to the module."""
    if not task.model.integer_inputs or task.model.config.torch is None:
        return
    most = 2 ** (np.finfo(task.model.dtype).nmant + 1)
    extents = [find_extent(part) for part in (task.train, task.validation) if part is not None]
    largest = max(max(int(np.max(high)), -int(np.min(low))) for low, high in extents)
    if largest > most:
        raise ConfigError(
            f"the inputs have the whole number {largest:,}, and {task.model.dtype} holds them exactly up to {most:,}; "
            "use smaller numbers, or dtype=float64"
        )


def describe_placement(placement: Placement, plan: Plan) -> str:
    """Return in a few words where the run happens, with what `servers: auto` chose."""
    low, high = placement.min_workers, placement.max_workers
    workers = (f"{high}" if low == high else f"{low} to {high}") + f" worker{'s' if high > 1 else ''}"
    workers += describe_idle(plan.recipe, high)
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
