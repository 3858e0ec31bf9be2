"""Train state and position to and from checkpoints: what is stored under which name."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from distbp.data.fingerprint import find_changed_part
from distbp.errors import CheckpointError
from distbp.nn.digests import digest
from distbp.nn.layout import Layout
from distbp.protocol.examples import Scaling
from distbp.protocol.messages import TrainState
from distbp.run import Checkpoint, CheckpointStore, RunDirectory
from distbp.run.position import Position
from distbp.training.plan import Plan
from distbp.training.rounds import moment_names

logger = logging.getLogger("distbp")

_INITIAL = "initial_digest"


def make_checkpoint(plan: Plan, state: TrainState, position: Position) -> Checkpoint:
    """Return everything that continues the run from `state`, and everything that uses it without its data."""
    tensors = _named("parameters", plan.layout, state.parameters)
    for name, moment in zip(moment_names(plan.recipe), state.moments, strict=True):
        tensors |= _named(name, plan.layout, moment)
    scaling = plan.schema.scaling
    if scaling.shift is not None and scaling.scale is not None:
        tensors |= {"scaling/shift": scaling.shift, "scaling/scale": scaling.scale}
    return Checkpoint(
        step=state.step,
        tensors=tensors,
        digest=digest(state.parameters),
        recipe_digest=plan.recipe.digest,
        position={**position.to_json(), **_identify_initial(plan)},
        data=plan.fingerprint.to_json(),
        schema=plan.schema.to_json(),
        module=plan.layout.state_dict(state.parameters) if plan.recipe.model.torch is not None else None,
    )


def newest_saved(plan: Plan, store: CheckpointStore) -> tuple[TrainState, Position]:
    """Return state and position of the newest good checkpoint, or the beginning if there is none.

    Raises CheckpointError if the checkpoint belongs to another recipe or was trained on other data.
    """
    checkpoint = _newest_usable(plan, store)
    return (plan.initial_state(), Position()) if checkpoint is None else unpack(plan, checkpoint)


def unpack(plan: Plan, checkpoint: Checkpoint) -> tuple[TrainState, Position]:
    """Return the state and position in a checkpoint; raises CheckpointError if they do not fit the plan."""
    check_data(plan, checkpoint.data)
    if checkpoint.position.get(_INITIAL) != _identify_initial(plan).get(_INITIAL):
        source = plan.recipe.model.initial
        weights = "the weights given to start with" if source is None else f"the weights in '{source}'"
        raise CheckpointError(
            f"{weights} are not those that the run started from; restore them, or start a new run with another --name"
        )
    state = TrainState(
        checkpoint.step,
        read_flat("parameters", plan.layout, checkpoint.tensors, plan.recipe.dtype),
        tuple(
            read_flat(name, plan.layout, checkpoint.tensors, plan.recipe.dtype) for name in moment_names(plan.recipe)
        ),
    )
    if digest(state.parameters) != checkpoint.digest:
        raise CheckpointError(f"the parameters of the checkpoint of step {checkpoint.step} do not have its digest")
    return state, _read_position(checkpoint.step, checkpoint.position)


def check_data(plan: Plan, stored: Mapping[str, object]) -> None:
    """Raise CheckpointError unless the plan's data are, value by value, those of a `stored` fingerprint."""
    part = find_changed_part(stored, plan.data, plan.fingerprint)
    if part is not None:
        data = plan.recipe.data
        source = data.validation if part == "validation" and isinstance(data.validation, str) else data.source
        raise CheckpointError(
            f"the {part} data in '{source}' are not those that the run started with; "
            "restore them, or start a new run with another --name"
        )


def check_recipe(run: RunDirectory, checkpoint: Checkpoint) -> None:
    """Raise CheckpointError unless a checkpoint of a run is of the recipe in its config.yaml."""
    if not run.owns(checkpoint.recipe_digest):
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} belongs to another recipe than '{run.url}/config.yaml'; "
            "was that changed? restore it, or copy the run again"
        )


def _identify_initial(plan: Plan) -> dict[str, str]:
    return {} if plan.initial is None else {_INITIAL: digest(np.concatenate((plan.initial, *plan.moments)))}


def _read_position(step: int, values: Mapping[str, object]) -> Position:
    position = Position.from_json(values)
    if position.step != step:
        raise CheckpointError(f"the checkpoint of step {step} has the position of step {position.step}; it is damaged")
    return position


def _newest_usable(plan: Plan, store: CheckpointStore) -> Checkpoint | None:
    """Return the newest good checkpoint; with early stopping, one from which the best is to be had as well."""
    newest = store.load_latest()
    for reason in store.skipped:
        logger.warning("%s", reason)
    if newest is not None:
        check_recipe(store.run, newest)
    if newest is None or plan.recipe.early_stopping.patience is None or _has_best(newest, store):
        return newest
    logger.warning("the best checkpoint, of step %s, is damaged; computing it again", newest.position["best_step"])
    older = (_load_if_good(store, step) for step in reversed(store.list_steps()) if step < newest.step)
    return next((checkpoint for checkpoint in older if checkpoint and _has_best(checkpoint, store)), None)


def _has_best(checkpoint: Checkpoint, store: CheckpointStore) -> bool:
    best = checkpoint.position.get("best_step")
    return best is None or best == checkpoint.step or _load_if_good(store, int(str(best))) is not None


def _load_if_good(store: CheckpointStore, step: int) -> Checkpoint | None:
    try:
        return store.load(step)
    except CheckpointError:
        return None


def read_flat(kind: str, layout: Layout, tensors: Mapping[str, NDArray], dtype: str) -> NDArray:
    """Return the flat vector (num_parameters,) from a checkpoint's named tensors of one kind.

    Raises CheckpointError if they are not the layout's.
    """
    flat = np.empty(layout.num_parameters, dtype)
    for name, view in layout.views(flat).items():
        tensor = tensors.get(f"{kind}/{name}")
        if tensor is None or tensor.shape != view.shape or tensor.dtype != view.dtype:
            found = "nothing" if tensor is None else f"{tensor.dtype} {tensor.shape}"
            raise CheckpointError(
                f"the checkpoint holds {found} as '{kind}/{name}', the model expects {view.dtype} {view.shape}"
            )
        view[...] = tensor
    return flat


def read_scaling(tensors: Mapping[str, NDArray]) -> Scaling:
    """Return the data's scaling as stored in a checkpoint."""
    return Scaling(tensors.get("scaling/shift"), tensors.get("scaling/scale"))


def _named(kind: str, layout: Layout, flat: NDArray) -> dict[str, NDArray]:
    return {f"{kind}/{name}": view for name, view in layout.views(flat).items()}
