"""train(): from a recipe and a placement to a finished run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from distbp.backends import Backend, make_backend
from distbp.config import Config, Placement, Recipe
from distbp.data import find_doubts, prepare
from distbp.errors import CheckpointError, InterruptedRunError, NumericsError, RunTakenError, StorageError
from distbp.machine.interrupt import StopRequest, stop_on_signals
from distbp.nn.build import ModelSpec
from distbp.nn.kernels import expect_portable
from distbp.nn.numerics import describe_kernels, fingerprint, is_same_arithmetic, list_kernels
from distbp.run import Checkpoint, CheckpointStore, CheckpointWriter, EventLog, RunDirectory, StepLog, next_name
from distbp.run.position import Position
from distbp.run.storage.folder import join_url
from distbp.run.storage.patience import persist
from distbp.text.masking import mask_secrets
from distbp.training.checkpoint_contents import check_data, newest_saved
from distbp.training.plan import Plan, describe_placement, make_plan
from distbp.training.session import Journal, Observer, Session

Resume = Literal["auto", "never", "must"]

logger = logging.getLogger("distbp")


@dataclass(frozen=True)
class Result:
    """What a run ended with; `result.json` and `train --json` carry exactly these fields.

    run: its folder or URL, with passwords masked. digest: SHA-256 of the final parameters, those after `final_step`
    steps; with early stopping the best ones, otherwise the last. Over all sessions of the run: seconds and what they
    went to (steps that count, waiting for workers, steps done again, checkpoints), goodput = work_s / seconds, and
    failures recovered from.
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
    "must" on an old one. A run of that name goes on as well where the recipe names more epochs than it had, unless its
    schedule is cosine or early stopping has ended it. observe: is called after every step. connect: makes the backend
    for a placement.

    Raises a DistbpError, one class for each exit code of the command line; InterruptedRunError after SIGINT or
    SIGTERM, when the run has been checkpointed.
    """
    config = Config(recipe=recipe or Recipe(), placement=placement or Placement())
    if config.placement.portable:
        expect_portable()
    data = prepare(config.recipe.data, config.recipe.seed)
    plan = make_plan(config, data)
    _warn_of_endless_warmup(plan)
    with _hold_run(config, plan, name, resume) as run:
        finished = _adopt(run, config.placement, plan)
        if finished is not None:
            logger.info("'%s' has finished already; %s", run.url, _advise_new_run(name))
            return _read_result(run, finished)
        for doubt in find_doubts(data, config.recipe.dtype):
            logger.warning("%s", doubt)
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
        return TypeAdapter(Result).validate_python(dict(values))
    except ValidationError as error:
        finding = error.errors(include_url=False)[0]
        what = f"{'.'.join(map(str, finding['loc']))}: {finding['msg']}"
        raise CheckpointError(f"'{run.url}/result.json' is not what distbp writes: {what}; remove the file") from None


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
    with stop_on_signals() as stop, _open_journal(run, store, state.step, stop) as journal:
        if state.step > 0:
            logger.info("resuming '%s' after step %d of %d", run.name, state.step, plan.num_steps)
        logger.info("%s; %s", plan.describe(), describe_placement(config.placement, plan))
        journal.events.append(
            "started",
            step=state.step,
            num_steps=plan.num_steps,
            placement=_describe_placement(config.placement),
            data=asdict(plan.fingerprint),
        )
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


def _describe_placement(placement: Placement) -> dict[str, Any]:
    values = placement.model_dump(mode="json")
    return {**values, "storage": mask_secrets(placement.storage)}


@contextmanager
def _open_journal(run: RunDirectory, store: CheckpointStore, step: int, stop: StopRequest) -> Iterator[Journal]:
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
        journal.writer.close(stop.watch())
        raise
    except BaseException:
        _close_quietly(journal, stop)
        raise
    journal.writer.close(stop.watch())


def _close_quietly(journal: Journal, stop: StopRequest) -> None:
    try:
        journal.writer.close(stop.watch())
    except StorageError as error:
        logger.warning("%s", error)


def _advise_new_run(name: str | None) -> str:
    return "--resume never starts a new run" if name is None else "for a new run choose another --name"


@contextmanager
def _hold_run(config: Config, plan: Plan, name: str | None, resume: Resume) -> Iterator[RunDirectory]:
    """Yield the run's directory, new or old, as `resume` allows, and hold its lock meanwhile.

    Without a name, one that another process takes at the same moment is left to it.
    """
    with ExitStack() as stack:
        yield _take_run(config, plan, name, resume, stack)


def _take_run(config: Config, plan: Plan, name: str | None, resume: Resume, stack: ExitStack) -> RunDirectory:
    taken: set[str] = set()
    while True:
        chosen = name or _choose_name(config.placement.storage, plan, resume, taken)
        try:
            run = _enter_run(config, plan.worker.model, chosen, resume)
            stack.enter_context(run.lock())
        except RunTakenError:
            if name is not None or resume == "must":
                raise
            taken.add(chosen)
        else:
            return run


def _enter_run(config: Config, model: ModelSpec, name: str, resume: Resume) -> RunDirectory:
    storage = config.placement.storage
    if not RunDirectory.exists(storage, name):
        if resume == "must":
            raise CheckpointError(f"there is no run '{name}' in '{storage}' to resume; check --name and --storage")
        with suppress(RunTakenError):  # made by another process meanwhile: the lock says by which one
            return RunDirectory.create(storage, name, config, fingerprint(model))
    run = RunDirectory.open(join_url(storage, name))
    if resume == "never":
        raise RunTakenError(f"'{run.url}' exists; choose another --name, or leave out --resume never")
    _check_recipe(run, config.recipe)
    return run


def _choose_name(storage: str, plan: Plan, resume: Resume, taken: Set[str]) -> str:
    """Return the unfinished run of this recipe and these data if there is one to resume, else a free name.

    None of `taken` is returned.
    """
    source = _letters(PurePosixPath(plan.recipe.data.source.rstrip("/")).stem) or "run"
    stems = [f"{source}-{digest[:8]}" for digest in (plan.digest, plan.recipe.digest_of_0_1_0)]
    free = next_name(storage, stems[0], taken)
    if resume == "never":
        return free
    newest = [name for stem in stems if (name := _name_before(next_name(storage, stem, taken), stem)) is not None]
    there = [name for name in newest if name not in taken]
    unfinished = [name for name in there if _is_unfinished(storage, name)]
    return next(iter(unfinished or (there if resume == "must" else [])), free)


def _is_unfinished(storage: str, name: str) -> bool:
    """Return whether a run waits to be resumed, or what a driver left that was killed while it created one."""
    if not RunDirectory.exists(storage, name):
        return RunDirectory.may_create(storage, name)
    run = RunDirectory.open(join_url(storage, name))
    return run.read_result() is None and not run.is_locked()


def _letters(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in text).strip("-")[:60]


def _name_before(free: str, stem: str) -> str | None:
    """Return the last name taken before `free` in stem, stem-2, stem-3, ...; None if there is none."""
    if free == stem:
        return None
    number = int(free.removeprefix(f"{stem}-")) - 1
    return stem if number == 1 else f"{stem}-{number}"


def _adopt(run: RunDirectory, placement: Placement, plan: Plan) -> dict[str, Any] | None:
    """Make the run one of this plan, whose recipe may name more epochs, or another place of the same data.

    Return its result if it has finished; a run that gets more epochs has not. Whatever is refused is so before
    anything is changed.
    """
    _check_recipe(run, plan.recipe)
    position = CheckpointStore(run, keep=1).newest_position()
    if position is not None:
        check_data(plan, position)
    theirs = run.read_config().recipe
    finished = run.read_result() if theirs.epochs == plan.recipe.epochs else None
    if finished is None:
        _check_numerics(run, plan.worker.model, placement)
    if theirs != plan.recipe:
        run.change_recipe(plan.recipe)
    return finished


def _check_recipe(run: RunDirectory, recipe: Recipe) -> None:
    """Raise CheckpointError unless `recipe` is the run's, or the same with more epochs where that changes no step."""
    theirs = run.read_config().recipe
    if theirs.digest == recipe.digest:
        return
    if theirs.model_copy(update={"epochs": recipe.epochs}).digest == recipe.digest and recipe.epochs > theirs.epochs:
        _check_more_epochs(run, theirs, recipe.epochs)
        return
    place = {"source": recipe.data.source}  # it may be another, so it is no reason
    theirs = theirs.model_copy(update={"data": theirs.data.model_copy(update=place)})
    changed = _differences(theirs.model_dump(), recipe.model_dump(), "recipe")
    raise CheckpointError(
        f"'{run.url}' was started with another recipe ({'; '.join(changed[:3])}); choose another --name"
    )


def _check_more_epochs(run: RunDirectory, theirs: Recipe, epochs: int) -> None:
    """Raise CheckpointError where the first epochs of a longer run are not those that were trained already."""
    what = f"'{run.url}' cannot go on from {theirs.epochs} to {epochs} epochs"
    if theirs.schedule.kind == "cosine":
        raise CheckpointError(f"{what}: its cosine schedule ends with epoch {theirs.epochs}; choose another --name")
    result = run.read_result()
    if result is not None and result.get("stopped_early"):
        raise CheckpointError(
            f"{what}: early stopping ended it after {result.get('epochs')}; choose another --name, "
            "with a larger early_stopping.patience"
        )


def _warn_of_endless_warmup(plan: Plan) -> None:
    warmup_steps = plan.recipe.schedule.warmup_steps
    if warmup_steps > plan.num_steps:
        logger.warning(
            "schedule.warmup_steps=%d is more than the %d steps of the run, so the learning rate rises to the end and "
            "never reaches its full value; use at most %d",
            warmup_steps, plan.num_steps, plan.num_steps,
        )  # fmt: skip


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


def _check_numerics(run: RunDirectory, model: ModelSpec, placement: Placement) -> None:
    """Refuse to go on where this process computes other bits than those the run was started with."""
    then = run.read_numerics()
    if is_same_arithmetic(then, model):
        return
    message = (
        f"this machine computes other floating-point results than '{run.url}' was started with "
        f"(then {describe_kernels(then)}, now {describe_kernels(list_kernels())}); use the same NumPy and the "
        "kernels of then (placement.portable as then, or OPENBLAS_CORETYPE), or accept other bits with "
        "placement.on_numerics_mismatch=warn"
    )
    if placement.on_numerics_mismatch == "refuse":
        raise NumericsError(message)
    logger.warning("%s", message)


def _conclude(run: RunDirectory, config: Config, plan: Plan, position: Position) -> Result:
    """Return the result; the digest is read from the checkpoint that holds the final parameters."""
    keeps_best = config.recipe.early_stopping.patience is not None
    final_step = position.best_step if keeps_best and position.best_step is not None else position.step
    store = CheckpointStore(run, config.placement.keep_checkpoints)
    checkpoint = _load_final(run, store, final_step)
    with suppress(StorageError):  # what an interrupted removal left is in nobody's way
        store.prune(position.step)
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
