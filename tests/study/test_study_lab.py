"""Trials are stored at once, never repeated, and leave nothing running, however a study ends."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import make_argv
from waiting import wait_until

from distbp.config import Recipe
from distbp.errors import ClusterError, ConfigError, DistbpError, InterruptedRunError, StorageError, TerminatedRunError
from distbp.lab.executor import LocalProcesses
from distbp.lab.lab import Chain, Lab, LabProgress, Measurement, single
from distbp.lab.store import RESULTS_FILE, Store
from distbp.machine.interrupt import StopRequest

pytestmark = pytest.mark.slow

DEADLINE_S = 60


@dataclass(frozen=True)
class Doubled:
    value: int
    pid: int


def double(value: int) -> Doubled:
    return Doubled(2 * value, os.getpid())


def die(_: int) -> Doubled:
    os._exit(9)


def refuse(value: int) -> Doubled:
    raise ConfigError(f"{value} is refused")


def doubling(name: str, value: int, count: int) -> Chain[list[int]]:
    """A chain in which each measurement depends on the one before."""
    found = []
    for number in range(count):
        result = yield Measurement(f"{name}/{number}", double, value, Doubled)
        value = result.value
        found.append(value)
    return found


@pytest.fixture(scope="module")
def pool():
    with LocalProcesses(2) as pool:
        yield pool


@pytest.fixture
def make_lab(tmp_path, pool):
    """Opens the lab again and again in the same folder; `seen` collects its progress."""
    with suppress(FileNotFoundError):
        (tmp_path / RESULTS_FILE).unlink()
    stores = []

    def make(stop: StopRequest | None = None, seen: list[LabProgress] | None = None) -> Lab:
        for store in stores:
            store.__exit__(None, None, None)
        stores.append(Store(tmp_path, {"study": "test"}))
        return Lab(stores[-1], pool, StopRequest() if stop is None else stop, (seen if seen is not None else []).append)

    yield make
    for store in stores:
        store.__exit__(None, None, None)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / RESULTS_FILE).read_text().splitlines()]


def test_chains_run_beside_each_other_each_in_order(make_lab, tmp_path):
    seen: list[LabProgress] = []
    found = make_lab(seen=seen).run("doubling", [doubling("a", 1, 3), doubling("b", 10, 2)], [3, 2])
    assert found == [[2, 4, 8], [20, 40]]
    assert {line["result"]["pid"] for line in lines(tmp_path)}.isdisjoint({os.getpid()})
    assert (seen[-1].total, seen[0].done) == (5, 0)


def test_what_is_stored_is_not_run_again(make_lab, tmp_path):
    make_lab().run("doubling", [doubling("a", 1, 2)], [2])
    before = lines(tmp_path)
    assert make_lab().run("doubling", [doubling("a", 1, 4)], [4]) == [[2, 4, 8, 16]]
    assert lines(tmp_path)[:2] == before
    assert [line["key"] for line in lines(tmp_path)] == ["a/0", "a/1", "a/2", "a/3"]


def test_measurements_happen_here_and_once(make_lab):
    measurement = Measurement("here", double, 4, Doubled)
    first = make_lab().measure("measuring", [measurement])
    assert first == make_lab().measure("measuring", [measurement]) == [Doubled(8, os.getpid())]


def test_a_torn_line_is_measured_again(make_lab, tmp_path):
    make_lab().run("doubling", [doubling("a", 1, 2)], [2])
    whole = (tmp_path / RESULTS_FILE).read_bytes()
    (tmp_path / RESULTS_FILE).write_bytes(whole[:-7])
    assert make_lab().run("doubling", [doubling("a", 1, 2)], [2]) == [[2, 4]]
    assert [line["key"] for line in lines(tmp_path)] == ["a/0", "a/1"]


def test_a_damaged_line_is_named(make_lab, tmp_path):
    make_lab().run("doubling", [doubling("a", 1, 2)], [2])
    content = (tmp_path / RESULTS_FILE).read_text().splitlines()
    (tmp_path / RESULTS_FILE).write_text("\n".join(["{broken", *content]) + "\n")
    with pytest.raises(StorageError, match=r"line 1 of '.*trials.jsonl' is damaged"):
        make_lab()


def test_a_signal_stops_with_what_is_finished_kept(make_lab, tmp_path):
    stop = StopRequest()
    lab = make_lab(stop)
    lab.run("doubling", [doubling("a", 1, 1)], [1])
    stop.receive(signal.SIGINT, None)
    with pytest.raises(InterruptedRunError, match="stopped with 1 results kept in"):
        lab.run("doubling", [doubling("b", 1, 1)], [1])
    assert [line["key"] for line in lines(tmp_path)] == ["a/0"]


class InstantPool:
    """Carries out each call at once; then runs `after` with the number of calls so far."""

    size = 2

    def __init__(self, after: Callable[[int], None]):
        self._after = after
        self.num_calls = 0

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call(*arguments))
        except Exception as error:
            future.set_exception(error)
        self.num_calls += 1
        self._after(self.num_calls)
        return future

    def check(self) -> None:
        pass

    def __enter__(self) -> InstantPool:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def stop_after_two(stop: StopRequest) -> InstantPool:
    return InstantPool(lambda calls: stop.receive(signal.SIGTERM, None) if calls == 2 else None)


def test_trials_that_have_ended_when_a_signal_comes_are_kept_and_used(tmp_path):
    stop = StopRequest()
    measurements = [Measurement(f"trial/{i}", double, i, Doubled) for i in range(5)]
    with Store(tmp_path, {}) as store, pytest.raises(TerminatedRunError, match="stopped with 2 results kept in"):
        Lab(store, stop_after_two(stop), stop, [].append).run("doubling", list(map(single, measurements)), [1] * 5)
    assert [line["key"] for line in lines(tmp_path)] == ["trial/0", "trial/1"]
    pool = InstantPool(lambda _: None)
    with Store(tmp_path, {}) as store:
        Lab(store, pool, StopRequest(), [].append).run("doubling", list(map(single, measurements)), [1] * 5)
    assert pool.num_calls == 3


def test_a_trial_that_fails_loses_none_that_has_ended(tmp_path):
    measurements = [Measurement("refused", refuse, 5, Doubled), Measurement("kept", double, 5, Doubled)]
    with Store(tmp_path, {}) as store, pytest.raises(ConfigError, match="5 is refused"):
        Lab(store, InstantPool(lambda _: None), StopRequest(), [].append).run(
            "doubling", list(map(single, measurements)), [1, 1]
        )
    assert [line["key"] for line in lines(tmp_path)] == ["kept"]


def test_a_process_that_a_signal_ended_is_no_failure_of_its_trial(tmp_path):
    stop = StopRequest()
    measurements = [Measurement("refused", refuse, 5, Doubled), Measurement("kept", double, 5, Doubled)]
    with Store(tmp_path, {}) as store, pytest.raises(TerminatedRunError, match="stopped with 1 results"):
        Lab(store, stop_after_two(stop), stop, [].append).run("doubling", list(map(single, measurements)), [1, 1])


class BrokenPool(InstantPool):
    """Never carries out a call, and says so when it is asked."""

    def submit(self, *_: Any) -> Future[Any]:
        return Future()

    def check(self) -> None:
        raise ClusterError("the raylet has ended")


def test_trials_that_can_never_end_are_not_waited_for(tmp_path):
    pool, lost = BrokenPool(lambda _: None), Measurement("lost", double, 5, Doubled)
    with Store(tmp_path, {}) as store, pytest.raises(ClusterError, match="the raylet has ended"):
        Lab(store, pool, StopRequest(), [].append).run("doubling", [single(lost)], [1])


def test_a_measurement_under_way_ends_at_once_and_those_before_are_kept(tmp_path):
    stop = StopRequest()

    def wait_for_ever(_: int) -> Doubled:
        while True:
            stop.receive(signal.SIGTERM, None)

    measurements = [Measurement("kept", double, 5, Doubled), Measurement("long", wait_for_ever, 5, Doubled)]
    with Store(tmp_path, {}) as store, pytest.raises(TerminatedRunError, match="stopped with 1 results"):
        Lab(store, InstantPool(lambda _: None), stop, [].append).measure("measuring", measurements)
    assert [line["key"] for line in lines(tmp_path)] == ["kept"]


def test_another_study_in_the_folder_is_refused(tmp_path):
    with Store(tmp_path, {"seed": 1}):
        pass
    with pytest.raises(ConfigError, match="holds a study with other settings"):
        Store(tmp_path, {"seed": 2})


def test_a_study_of_a_version_with_fewer_settings_goes_on(tmp_path):
    """Its recipe lacks a field, it had no such setting, and did not say which data it had."""
    recipe = Recipe(epochs=3).model_dump(mode="json")
    del recipe["optimizer"]["clip_norm"], recipe["dtype"]
    (tmp_path / "study.json").write_text(json.dumps({"study": "order", "recipe": recipe}))
    ours = {
        "study": "order",
        "recipe": Recipe(epochs=3).model_dump(mode="json"),
        "depth": None,
        "data": {"training": "a"},
    }
    with Store(tmp_path, ours):
        pass
    for changed in ({"depth": 1}, {"recipe": Recipe(epochs=4).model_dump(mode="json")}, {"study": "workers"}):
        with pytest.raises(ConfigError, match="holds a study with other settings"):
            Store(tmp_path, {**ours, **changed})


def test_a_study_of_other_data_is_refused(tmp_path):
    with Store(tmp_path, {"data": {"training": "a"}}):
        pass
    with pytest.raises(ConfigError, match="or of other data"):
        Store(tmp_path, {"data": {"training": "b"}})


def test_two_processes_do_not_share_a_folder(tmp_path):
    with Store(tmp_path, {}), pytest.raises(ConfigError, match="another process is working in"):
        Store(tmp_path, {})


def test_a_users_mistake_in_a_trial_arrives_as_itself(make_lab):
    with pytest.raises(ConfigError, match="5 is refused"):
        make_lab().run("refusing", [single(Measurement("refused", refuse, 5, Doubled))], [1])


def test_a_process_that_dies_is_named_by_its_trial(tmp_path):
    with Store(tmp_path, {}) as store, LocalProcesses(1) as pool:
        lab = Lab(store, pool, StopRequest(), [].append)
        with pytest.raises(DistbpError, match=r"a process of the study died in 'dies'.*the same command goes on"):
            lab.run("dying", [single(Measurement("dies", die, 0, Doubled))], [1])


def test_closing_a_pool_ends_its_processes():
    before = set(multiprocessing.active_children())
    with LocalProcesses(2) as pool:
        futures = [pool.submit(time.sleep, 1000), pool.submit(time.sleep, 1000)]
        wait_until(lambda: all(future.running() for future in futures))
    assert set(multiprocessing.active_children()) == before


@pytest.mark.parametrize(
    ("number", "whom"),
    [(signal.SIGINT, "group"), (signal.SIGTERM, "driver"), (signal.SIGTERM, "group"), (signal.SIGKILL, "driver")],
)
def test_a_stopped_study_goes_on_and_leaves_no_process(tmp_path, number, whom):
    argv = make_argv("study", "batch-size", "--out", "out", "--minutes", 0.05, "--trials", 3)
    argv += ["--batch-sizes", "16,256", "--goals", "0.3", "--set", "epochs=1", "--set", "model.hidden=[8]"]
    process = subprocess.Popen(argv, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    results = tmp_path / "out" / RESULTS_FILE
    wait_until(lambda: results.exists() and "search/" in results.read_text(), DEADLINE_S)
    (os.kill if whom == "driver" else os.killpg)(process.pid, number)
    _, errors = process.communicate(timeout=DEADLINE_S)
    kept = results.read_text().splitlines()
    assert any('"search/' in line for line in kept)
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert "the same command goes on: distbp study batch-size --out out" in errors
    wait_until(lambda: not is_group_alive(process.pid), DEADLINE_S)
    done = subprocess.run([*argv, "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    assert results.read_text().splitlines()[: len(kept) - 1] == kept[:-1]
    assert json.loads(done.stdout)["report"] == "out/report.html"


def is_group_alive(group: int) -> bool:
    """Whether any process of the study is left, zombies that nobody has waited for aside."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                return True
    return False
