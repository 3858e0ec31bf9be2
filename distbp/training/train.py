"""train(): from a recipe and a placement to a finished run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from distbp.backends import Backend, make_backend
from distbp.config import Config, Placement, Recipe
from distbp.data import PreparedData, find_doubts, prepare
from distbp.errors import CheckpointError, InterruptedRunError, StorageError
from distbp.machine.interrupt import StopRequest, stop_on_signals
from distbp.nn.kernels import expect_portable
from distbp.run import Checkpoint, CheckpointStore, RunDirectory
from distbp.run.position import Position
from distbp.run.storage.patience import persist
from distbp.text.masking import mask_secrets
from distbp.training.checkpoint_contents import newest_saved
from distbp.training.dataset import write_dataset
from distbp.training.first_look import open_mapper
from distbp.training.journal import Journal
from distbp.training.monitor import Monitor, check_monitor
from distbp.training.plan import Builder, Plan, Start, describe_placement, make_plan, name_builder
from distbp.training.plan_data import find_shortage
from distbp.training.progress import Observer
from distbp.training.rounds import rounds_as_json
from distbp.training.run_choice import Resume, hold_run
from distbp.training.run_match import adopt
from distbp.training.session import Session
from distbp.training.verdict import Verdict, find_rare_classes, find_warnings, judge

logger = logging.getLogger("distbp")


@dataclass(frozen=True)
class Result:
    """What a run ended with; `result.json` and `train --json` carry exactly these fields.

    run: its folder or URL, with passwords masked. digest: SHA-256 of the final parameters, those after `final_step`
    steps; with early stopping the best ones, otherwise the last. Over all sessions of the run: seconds and what they
    went to (steps that count, waiting for workers, steps done again, checkpoints), goodput = work_s / seconds, and
    failures recovered from. preemptions: workers that left in time, because a notice was heard. rounds: what the recipe
    says of them; None where every step was committed. data_s: seconds that steps waited for data in blocks. What is
    always right so often, and R2, are of the validation examples (`Verdict`). monitored: the measure that early
    stopping watched, by its name, at `final_step`; None where it was the loss.
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
    preemptions: int = 0
    rounds: dict[str, Any] | None = None
    data_s: float = 0.0
    largest_class: float | None = None
    validation_r2: float | None = None
    monitored: dict[str, float] | None = None


def train(
    recipe: Recipe | None = None,
    placement: Placement | None = None,
    *,
    name: str | None = None,
    resume: Resume = "auto",
    observe: Observer | None = None,
    connect: Callable[[Placement], Backend] = make_backend,
    model: Builder | None = None,
    data: PreparedData | Any = None,
    start: Start | None = None,
) -> Result:
    """Train by `recipe`, where `placement` says, and return what the run ended with.

    name: of the run's directory under placement.storage; None makes one from the data and the recipe.
    resume: "auto" continues an unfinished run of the same name and recipe, "never" insists on a new one,
    "must" on an old one. A run of that name goes on as well where the recipe names more epochs than it had, unless its
    schedule is cosine or early stopping has ended it. observe: is called after every step. connect: makes the backend
    for a placement. model: a function that builds a torch.nn.Module, in place of recipe.model.torch, under whose name
    it is recorded. data: examples in memory, in place of what recipe.data names; or a Ray Dataset, which is written as
    Parquet to recipe.data.source first, a new folder or URL; what an earlier call wrote there is used as it is. start:
    what to begin with instead of drawn parameters.

    Raises a DistbpError, one class for each exit code of the command line; InterruptedRunError after SIGINT or
    SIGTERM, when the run has been checkpointed.
    """
    recipe = recipe or Recipe()
    config = Config(recipe=recipe if model is None else name_builder(recipe, model), placement=placement or Placement())
    if config.placement.portable:
        expect_portable()
    prepared = _prepare(config, data)
    plan = make_plan(config, prepared, model, start)
    config = config.model_copy(update={"recipe": plan.recipe})
    plan.check_model()
    check_monitor(plan)
    _warn_of_endless_warmup(plan)
    with hold_run(config, plan, name, resume) as run:
        finished = adopt(run, config.placement, plan)
        if finished is not None:
            logger.info("'%s' has finished already; %s", run.url, _advise_new_run(name))
            return _read_result(run, finished)
        for note in prepared.notes:
            logger.info("%s", note)
        doubts = (*find_doubts(plan.data, config.recipe.dtype), *find_rare_classes(plan))
        for doubt in (*doubts, find_shortage(plan.data, config.placement)):
            if doubt is not None:
                logger.warning("%s", doubt)
        position = _train_session(run, config, plan, connect, observe)
        result = _conclude(run, config, plan, position)
        run.write_result(asdict(result))
        _warn_of_result(run, plan, result)
    return result


def _prepare(config: Config, data: PreparedData | Any) -> PreparedData:
    """Return the examples of a run; a Ray Dataset becomes the files that the recipe names."""
    if isinstance(data, PreparedData):
        return data
    if data is not None:
        write_dataset(data, config.recipe.data.source)
    with open_mapper(config) as mapper:
        return prepare(config.recipe.data, config.recipe.seed, mapper)


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
            position = Session(plan, config.placement, backend, journal, stop, observe, state, position).run()
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
    journal = Journal.begin(run, store, step)
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


def _warn_of_endless_warmup(plan: Plan) -> None:
    warmup_steps = plan.recipe.schedule.warmup_steps
    if warmup_steps > plan.num_steps:
        logger.warning(
            "schedule.warmup_steps=%d is more than the %d steps of the run, so the learning rate rises to the end and "
            "never reaches its full value; use at most %d",
            warmup_steps, plan.num_steps, plan.num_steps,
        )  # fmt: skip


def _warn_of_result(run: RunDirectory, plan: Plan, result: Result) -> None:
    """Say what to know about a result."""
    with suppress(StorageError):
        losses = [float(event["loss"]) for event in run.read_events() if event["kind"] == "evaluated"]
        verdict = Verdict(result.largest_class, result.validation_r2)
        for warning in find_warnings(plan, verdict, result.validation_accuracy, losses):
            logger.warning("%s", warning)


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
    validation_loss = position.best_loss if keeps_best else position.validation_loss
    verdict = judge(plan, validation_loss)
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
        validation_loss=validation_loss,
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
        preemptions=position.preemptions,
        rounds=rounds_as_json(plan.recipe),
        data_s=round(position.data_s, 4),
        largest_class=verdict.largest_class,
        validation_r2=verdict.r2,
        monitored=_read_monitored(plan, position) if keeps_best else None,
    )


def _read_monitored(plan: Plan, position: Position) -> dict[str, float] | None:
    monitor = Monitor(plan)
    value = monitor.to_error(position.best_error)  # twice the sign is none
    return None if value is None else {monitor.name: value}
