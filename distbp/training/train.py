"""train(): from a recipe and a placement to a finished run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from distbp.backends import Backend, make_backend
from distbp.config import Config, Placement, Recipe
from distbp.data import prepare
from distbp.errors import CheckpointError, InterruptedRunError, NumericsError, StorageError
from distbp.nn.numerics import fingerprint
from distbp.run import Checkpoint, CheckpointStore, CheckpointWriter, EventLog, RunDirectory, StepLog, next_name
from distbp.run.folder import join_url
from distbp.run.interrupt import stop_on_signals
from distbp.run.patience import persist
from distbp.run.position import Position
from distbp.training.packing import newest_saved
from distbp.training.plan import Plan, describe_placement, make_plan
from distbp.training.session import Journal, Observer, Session

Resume = Literal["auto", "never", "must"]

logger = logging.getLogger("distbp")


@dataclass(frozen=True)
class Result:
    """What a run ended with; `result.json` and `train --json` carry exactly these fields.

    digest: SHA-256 of the final parameters, those after `final_step` steps; with early stopping the best ones,
    otherwise the last. Over all sessions of the run: seconds and what they went to (steps that count, waiting for
    workers, steps done again, checkpoints), goodput = work_s / seconds, and failures recovered from.
    """

    run: str
    digest: str
    backend: str
    workers: int
    steps: int
    epochs: int
    final_step: int
    stopped_early: bool
    num_parameters: int
    train_loss: float
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float
    examples_per_second: float
    recoveries: int
    longest_recovery_s: float
    work_s: float
    waiting_s: float
    recomputing_s: float
    checkpointing_s: float
    goodput: float


def train(
    recipe: Recipe | None = None,
    placement: Placement | None = None,
    *,
    name: str | None = None,
    resume: Resume = "auto",
    observe: Observer | None = None,
    connect: Callable[[Placement], Backend] = make_backend,
) -> Result:
    """Train by `recipe`, where `placement` says, and return what the run ended with.

    name: of the run's directory under placement.storage; None makes one from the data and the recipe.
    resume: "auto" continues an unfinished run of the same name and recipe, "never" insists on a new one,
    "must" on an old one. observe: is called after every step. connect: makes the backend for a placement.

    Raises a DistbpError, one class for each exit code of the command line; InterruptedRunError after SIGINT or
    SIGTERM, when the run has been checkpointed.
    """
    config = Config(recipe=recipe or Recipe(), placement=placement or Placement())
    plan = make_plan(config, prepare(config.recipe.data, config.recipe.seed))
    run = _enter_run(config, name, resume)
    with run.lock():
        finished = run.read_result()
        if finished is not None:
            logger.info("'%s' has finished already; --resume never starts a new run", run.url)
            return _read_result(run, finished)
        _check_numerics(run, config.placement)
        position = _train_session(run, config, plan, connect, observe)
        result = _conclude(run, config, plan, position)
        run.write_result(asdict(result))
    return result


def _load_final(run: RunDirectory, store: CheckpointStore, step: int) -> Checkpoint:
    """Return the checkpoint with the final parameters, which may have been damaged since it was written."""
    try:
        return persist(lambda: store.load(step), run.folder.patience_s)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; the same command computes it again") from None


def _read_result(run: RunDirectory, values: Mapping[str, Any]) -> Result:
    try:
        return Result(**values)
    except TypeError as error:
        raise CheckpointError(f"'{run.url}/result.json' is not what distbp writes: {error}; remove the file") from None


def _train_session(
    run: RunDirectory,
    config: Config,
    plan: Plan,
    connect: Callable[[Placement], Backend],
    observe: Observer | None,
) -> Position:
    """Train from the newest checkpoint to the end, closing everything in whatever way it ends."""
    store = CheckpointStore(run, config.placement.keep_checkpoints)
    state, position = newest_saved(plan, store)
    with stop_on_signals() as stop, _open_journal(run, store, state.step) as journal:
        if state.step > 0:
            logger.info("resuming '%s' after step %d of %d", run.name, state.step, plan.num_steps)
        logger.info("%s; %s", plan.describe(), describe_placement(config.placement, plan))
        journal.events.append("started", step=state.step, placement=config.placement.model_dump(mode="json"))
        how = "before its workers were ready; the same command resumes"
        with stop.at_once(f"stopped after step {state.step} of {plan.num_steps}, {how}"):
            backend = connect(config.placement)
        stop.listen()
        try:
            position = Session(plan, config.placement, backend, journal, stop, observe).run(state, position)
        except BaseException as error:
            with suppress(StorageError):  # what storage has to say comes when the journal is closed
                journal.events.append("ended", error=type(error).__name__, reason=str(error))
            raise
        finally:
            backend.close()
        journal.events.append("finished", step=position.step)
    return position


@contextmanager
def _open_journal(run: RunDirectory, store: CheckpointStore, step: int) -> Iterator[Journal]:
    """Open the logs and the checkpoint writer; everything is on storage when the block ends, or StorageError raised.

    Where an error of another kind ended the training, that one is raised, and what storage refused is a warning.
    """
    events = EventLog(run)

    def note(checkpoint: Checkpoint) -> None:
        events.append("checkpoint", step=checkpoint.step, digest=checkpoint.digest)

    journal = Journal(StepLog(run, from_step=step), events, store, CheckpointWriter(store, note, step))
    try:
        yield journal
    except (StorageError, InterruptedRunError):
        journal.writer.close()
        raise
    except BaseException:
        _close_quietly(journal)
        raise
    journal.writer.close()


def _close_quietly(journal: Journal) -> None:
    try:
        journal.writer.close()
    except StorageError as error:
        logger.warning("%s", error)


def _enter_run(config: Config, name: str | None, resume: Resume) -> RunDirectory:
    """Return the run's directory, new or old, as `resume` allows."""
    storage = config.placement.storage
    if name is None:
        name = _choose_name(config, resume)
    if RunDirectory.exists(storage, name):
        run = RunDirectory.open(join_url(storage, name))
        if resume == "never":
            raise CheckpointError(f"'{run.url}' exists; choose another --name, or leave out --resume never")
        _check_recipe(run, config.recipe)
        return run
    if resume == "must":
        raise CheckpointError(f"there is no run '{name}' in '{storage}' to resume; check --name and --storage")
    return RunDirectory.create(storage, name, config, fingerprint())


def _choose_name(config: Config, resume: Resume) -> str:
    """Return the unfinished run of this recipe if there is one to resume, else a free name."""
    source = PurePosixPath(config.recipe.data.source.rstrip("/"))
    stem = f"{_letters(source.stem) or 'run'}-{config.recipe.digest[:8]}"
    free = next_name(config.placement.storage, stem)
    newest = _name_before(free, stem)
    if resume == "never" or newest is None:
        return free
    run = RunDirectory.open(join_url(config.placement.storage, newest))
    is_open = run.read_result() is None and not run.is_locked()
    return newest if is_open or resume == "must" else free


def _letters(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in text).strip("-")[:60]


def _name_before(free: str, stem: str) -> str | None:
    """Return the last name taken before `free` in stem, stem-2, stem-3, ...; None if there is none."""
    if free == stem:
        return None
    number = int(free.removeprefix(f"{stem}-")) - 1
    return stem if number == 1 else f"{stem}-{number}"


def _check_recipe(run: RunDirectory, recipe: Recipe) -> None:
    theirs = run.read_config().recipe
    if theirs.digest == recipe.digest:
        return
    changed = _differences(theirs.model_dump(), recipe.model_dump(), "recipe")
    raise CheckpointError(
        f"'{run.url}' was started with another recipe ({'; '.join(changed[:3])}); choose another --name"
    )


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], path: str) -> list[str]:
    """Return a sentence for each value that differs."""
    found = []
    for key in ours:
        a, b = theirs.get(key), ours[key]
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += _differences(a, b, f"{path}.{key}")
        elif a != b:
            found.append(f"{path}.{key} was {a!r} and is now {b!r}")
    return found


def _check_numerics(run: RunDirectory, placement: Placement) -> None:
    """Refuse to go on where this process computes other bits than those the run was started with."""
    then, now = run.read_numerics(), fingerprint()
    if then.get("probe") == now["probe"]:
        return
    message = (
        f"this machine computes other floating-point results than '{run.url}' was started with "
        f"(then {_describe(then)}, now {_describe(now)}); set OPENBLAS_CORETYPE to the kernel of then and use "
        f"the same NumPy, or accept other bits with placement.on_numerics_mismatch=warn"
    )
    if placement.on_numerics_mismatch == "refuse":
        raise NumericsError(message)
    logger.warning("%s", message)


def _describe(numerics: Mapping[str, Any]) -> str:
    kernels = ", ".join(str(blas.get("architecture")) for blas in numerics.get("blas") or [])
    return f"NumPy {numerics.get('numpy')} with {kernels or 'an unknown BLAS'}"


def _conclude(run: RunDirectory, config: Config, plan: Plan, position: Position) -> Result:
    """Return the result; the digest is read from the checkpoint that holds the final parameters."""
    keeps_best = config.recipe.early_stopping.patience is not None
    final_step = position.best_step if keeps_best and position.best_step is not None else position.step
    checkpoint = _load_final(run, CheckpointStore(run, config.placement.keep_checkpoints), final_step)
    train_loss = position.train_loss
    assert train_loss is not None  # a finished run has finished an epoch
    return Result(
        run=run.url,
        digest=checkpoint.digest,
        backend=config.placement.backend,
        workers=config.placement.max_workers,
        steps=position.step,
        epochs=position.epochs_evaluated,
        final_step=final_step,
        stopped_early=position.step < plan.num_steps,
        num_parameters=plan.layout.num_parameters,
        train_loss=train_loss,
        validation_loss=position.best_loss if keeps_best else position.validation_loss,
        validation_accuracy=position.best_accuracy if keeps_best else position.validation_accuracy,
        seconds=round(position.seconds, 3),
        examples_per_second=round(position.examples / max(position.seconds, 1e-9), 1),
        recoveries=position.recoveries,
        longest_recovery_s=round(position.longest_recovery_s, 3),
        work_s=round(position.work_s, 4),
        waiting_s=round(position.waiting_s, 4),
        recomputing_s=round(position.recomputing_s, 4),
        checkpointing_s=round(position.checkpointing_s, 4),
        goodput=round(position.goodput, 4),
    )
