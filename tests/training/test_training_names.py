"""Who gets which run: names that several processes want at once, and what the one that loses is told."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from distbp.config import Config
from distbp.data import prepare
from distbp.errors import CheckpointError, RunTakenError
from distbp.run import RunDirectory, names
from distbp.training.plan import Plan, make_plan
from distbp.training.run_choice import choose_name, take_run

pytestmark = pytest.mark.slow


def plan_of(config: Config) -> Plan:
    return make_plan(config, prepare(config.recipe.data, config.recipe.seed))


HOLDER = """
import sys, time
from distbp import Placement, Recipe
from distbp.config import Config
from distbp.run import RunDirectory
config = Config.model_validate_json(sys.argv[2])
run = RunDirectory.create(config.placement.storage, sys.argv[1], config, {})
with run.lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["local", "faulty"])
def config(request, make_recipe, tmp_path, faults):  # noqa: ARG001 - makes the storage
    from distbp import Placement

    storage = str(tmp_path / "runs") if request.param == "local" else "faulty://bucket/runs"
    return Config(recipe=make_recipe(), placement=Placement(storage=storage))


@pytest.fixture
def stack():
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield stack


def test_runs_without_a_name_that_look_at_the_same_moment_all_get_one(config, stack, monkeypatch):
    """Each sees an empty storage when it chooses its name, and finds others there when it takes it."""

    def look_too_early(storage: str, stem: str, taken=frozenset()) -> str:
        free = names.next_name(storage, stem, taken)
        return stem if not taken else free

    monkeypatch.setattr(sys.modules["distbp.training.run_choice"], "next_name", look_too_early)
    plan = plan_of(config)
    runs = [take_run(config, plan, None, resume, stack) for resume in ("auto", "never", "auto", "never")]
    stem = runs[0].name
    assert [run.name for run in runs] == [stem, f"{stem}-2", f"{stem}-3", f"{stem}-4"]
    assert all(run.holds_lock for run in runs)


def test_many_that_start_together_hold_a_run_each(config, stack):
    plan = plan_of(config)
    with ThreadPoolExecutor(8) as threads:
        runs = list(threads.map(lambda _: take_run(config, plan, None, "auto", stack), range(8)))
    assert len({run.name for run in runs}) == 8
    assert sorted(RunDirectory.list_names(config.placement.storage)) == sorted(run.name for run in runs)
    assert all(run.holds_lock and run.read_numerics() for run in runs)


def test_a_run_that_another_took_before_it_was_locked_is_left_to_it(config, stack, monkeypatch):
    create = RunDirectory.create

    def create_and_lose(*args: object) -> RunDirectory:
        run = create(*args)
        if run.name == stem:
            stack.enter_context(RunDirectory.open(run.url).lock())
        return run

    stem = choose_name(config.placement.storage, plan_of(config), "auto", set())
    monkeypatch.setattr(RunDirectory, "create", create_and_lose)
    assert take_run(config, plan_of(config), None, "auto", stack).name == f"{stem}-2"


@pytest.mark.slow
@pytest.mark.parametrize("resume", ["auto", "must"])
def test_the_loser_of_a_name_hears_which_process_has_the_run(make_recipe, tmp_path, stack, monkeypatch, resume):
    from distbp import Placement

    config = Config(recipe=make_recipe(), placement=Placement(storage=str(tmp_path / "runs")))
    command = [sys.executable, "-c", HOLDER, "mine", config.model_dump_json()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        if resume == "auto":  # it looked before the other one had created the run
            answers = iter([False])
            exists = RunDirectory.exists
            monkeypatch.setattr(
                RunDirectory, "exists", lambda *args: next(answers, None) is not False and exists(*args)
            )
        who = rf"in use by process {holder.pid} on host '{socket.gethostname()}'.*stop it \(kill {holder.pid}\)"
        with pytest.raises(RunTakenError, match=who):
            take_run(config, plan_of(config), "mine", resume, stack)
        holder.stdin.close()


def test_drivers_that_create_one_run_together_agree_on_its_files(config, monkeypatch):
    """The second looks when nothing is there, and writes when the first one has."""
    storage, numerics = config.placement.storage, ({"by": "first"}, {"by": "second"})
    monkeypatch.setattr("distbp.run.directory.check_place", lambda _: False)
    RunDirectory.create(storage, "run", config, numerics[0])
    with pytest.raises(RunTakenError, match="already exists; resume it, or choose another name"):
        RunDirectory.create(storage, "run", config, numerics[1])
    assert RunDirectory.open(f"{storage}/run").read_numerics() == numerics[0]


def test_the_beginning_of_a_run_on_another_machine_is_replaced(config):
    """A driver elsewhere wrote its numerics.json, and died."""
    place = RunDirectory.create(config.placement.storage, "seed", config, {}).folder.parent.child("run")
    if place.local_path("") is not None:
        Path(place.local_path("")).mkdir()
    place.write("numerics.json", b"{}")
    run = RunDirectory.create(config.placement.storage, "run", config, {"by": "this one"})
    assert RunDirectory.open(run.url).read_numerics() == {"by": "this one"}


def test_a_folder_that_is_no_run_is_left_alone(config):
    place = RunDirectory.create(config.placement.storage, "seed", config, {}).folder.parent.child("run")
    if place.local_path("") is not None:
        Path(place.local_path("")).mkdir()
    place.write("thesis.txt", b"mine")
    with pytest.raises(CheckpointError, match=r"a folder with thesis.txt and no config.yaml, not a run; move"):
        RunDirectory.create(config.placement.storage, "run", config, {})
    assert place.names() == ["thesis.txt"]


def test_a_copy_of_a_run_that_is_being_trained_can_be_used(train_toy, make_placement):
    first = RunDirectory.open(train_toy("original").run)
    storage = Path(make_placement().storage)
    (storage / "original" / "result.json").unlink()
    with first.lock():
        shutil.copytree(storage / "original", storage / "copy")
        assert not RunDirectory.open(str(storage / "copy")).is_locked()
        assert train_toy("copy").steps == 6
        assert first.is_locked()
        os.rename(storage / "original", storage / "moved")  # noqa: PTH104 - the pair of the copy above
        with pytest.raises(RunTakenError):
            train_toy("moved")
        os.rename(storage / "moved", storage / "original")  # noqa: PTH104


def test_advice_on_a_new_run_works_as_typed(train_toy, caplog):
    caplog.set_level("INFO", "distbp")
    named = train_toy("named")
    train_toy("named")
    assert "has finished already; for a new run choose another --name" in caplog.text
    unnamed = train_toy(None)
    again = train_toy(None, resume="never")
    assert len({named.run, unnamed.run, again.run}) == 3
