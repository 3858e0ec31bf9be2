"""Which run a call of train() is about: a new one or an old one, under which name, and held against other drivers."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import ExitStack, contextmanager, suppress
from pathlib import PurePosixPath
from typing import Literal

from distbp.config import Config
from distbp.errors import CheckpointError, RunTakenError
from distbp.nn.build import ModelSpec
from distbp.nn.numerics import fingerprint
from distbp.run import RunDirectory, next_name
from distbp.run.storage.folder import join_url
from distbp.training.plan import Plan
from distbp.training.run_match import check_same_recipe

Resume = Literal["auto", "never", "must"]


@contextmanager
def hold_run(config: Config, plan: Plan, name: str | None, resume: Resume) -> Iterator[RunDirectory]:
    """Yield the run's directory, new or old, as `resume` allows, and hold its lock meanwhile.

    Without a name, one that another process takes at the same moment is left to it.
    """
    with ExitStack() as stack:
        yield take_run(config, plan, name, resume, stack)


def take_run(config: Config, plan: Plan, name: str | None, resume: Resume, stack: ExitStack) -> RunDirectory:
    """Return the run's directory, whose lock `stack` gives back."""
    taken: set[str] = set()
    while True:
        chosen = name or choose_name(config.placement.storage, plan, resume, taken)
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
    check_same_recipe(run, config.recipe)
    return run


def choose_name(storage: str, plan: Plan, resume: Resume, taken: Set[str]) -> str:
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
