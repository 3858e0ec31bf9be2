"""One fit: train() on examples in memory, in a run that is kept where the placement says, or nowhere."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import fsspec

from distbp.config import Placement, Recipe
from distbp.data import PreparedData
from distbp.errors import InterruptedRunError, TerminatedRunError
from distbp.prediction.network import Network
from distbp.run import Checkpoint, CheckpointStore, RunDirectory
from distbp.run.storage.folder import join_url
from distbp.training import Observer, Start, train
from distbp.training.checkpoint_contents import read_flat
from distbp.training.plan import model_spec
from distbp.training.rounds import moment_names

_NAME = "fit"
_NEVER = 10**9  # steps: a run that nobody can resume needs no checkpoints on the way


@dataclass(frozen=True)
class Curve:
    """What was seen after each epoch: the mean loss over it, and loss and accuracy on held-out examples, if any."""

    losses: list[float]
    validation_losses: list[float]
    validation_accuracies: list[float | None]


@dataclass(frozen=True)
class Fitted:
    """What a fit ended with. run: where it is kept, None if nowhere. is_whole: False if Ctrl-C ended it."""

    network: Network
    start: Start
    digest: str
    num_steps: int
    curve: Curve
    run: str | None
    is_whole: bool = True


def fit_examples(
    recipe: Recipe,
    placement: Placement,
    data: PreparedData,
    start: Start | None,
    observe: Observer | None,
    keep_run: bool,
) -> Fitted:
    """Return what train() makes of `data`. start: what to go on from. keep_run: in placement.storage.

    Raises what train() does; but after Ctrl-C, if there is a checkpoint, its network is returned.
    """
    with _choose_place(placement, keep_run) as place:
        try:
            result = train(recipe, place, name=None if keep_run else _NAME, data=data, start=start, observe=observe)
        except TerminatedRunError:
            raise
        except InterruptedRunError:
            fitted = None if keep_run else _read_interrupted(place, recipe, data)
            if fitted is None:
                raise
            return fitted
        run = RunDirectory.open(result.run)
        checkpoint = CheckpointStore(run, place.keep_checkpoints).load(result.final_step)
        return _read_fitted(run, recipe, data, checkpoint, result.run if keep_run else None)


@contextmanager
def _choose_place(placement: Placement, keep_run: bool) -> Iterator[Placement]:
    """Yield the placement with a storage in this process's memory, which is emptied at the end, unless it is kept."""
    if keep_run:
        yield placement
        return
    storage = f"memory://distbp-{uuid.uuid4().hex}"
    every = _NEVER if placement.backend == "local" else placement.checkpoint_every_steps
    here = {"storage": storage, "checkpoint_every_steps": every, "keep_checkpoints": 1}
    try:
        yield placement.model_copy(update=here)
    finally:
        filesystem, path = fsspec.url_to_fs(storage)
        if filesystem.exists(path):
            filesystem.rm(path, recursive=True)


def _read_interrupted(place: Placement, recipe: Recipe, data: PreparedData) -> Fitted | None:
    """Return what a stopped run saved, None if it had not begun."""
    if not RunDirectory.exists(place.storage, _NAME):
        return None
    run = RunDirectory.open(join_url(place.storage, _NAME))
    checkpoint = CheckpointStore(run, place.keep_checkpoints).load_latest()
    return None if checkpoint is None else replace(_read_fitted(run, recipe, data, checkpoint, None), is_whole=False)


def _read_fitted(
    run: RunDirectory, recipe: Recipe, data: PreparedData, checkpoint: Checkpoint, kept_at: str | None
) -> Fitted:
    spec = model_spec(recipe, data.schema)
    layout = spec.build().layout
    names = ("parameters", *moment_names(recipe))
    parameters, *moments = (read_flat(name, layout, checkpoint.tensors, recipe.dtype) for name in names)
    steps, curve = _read_curve(run)
    start = Start(parameters, tuple(moments))
    return Fitted(Network(data.schema, spec, parameters), start, checkpoint.digest, steps, curve, kept_at)


def _read_curve(run: RunDirectory) -> tuple[int, Curve]:
    """Return the number of steps and what was seen after each epoch, over all sessions of a run."""
    records = run.read_steps()
    losses: dict[int, float] = {}
    divisors: dict[int, float] = {}
    for record in records:
        losses[record.epoch] = losses.get(record.epoch, 0.0) + record.loss * record.divisor
        divisors[record.epoch] = divisors.get(record.epoch, 0.0) + record.divisor
    seen = {event["step"]: event for event in run.read_events() if event["kind"] == "evaluated"}
    evaluations = [seen[step] for step in sorted(seen)]
    return len(records), Curve(
        [losses[epoch] / divisors[epoch] for epoch in sorted(losses)],
        [float(event["loss"]) for event in evaluations],
        [event["accuracy"] for event in evaluations],
    )
