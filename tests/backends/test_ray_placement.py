"""Runs share a cluster: each takes room for all of its actors or for none, and waits in line for it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator

import pytest

from distbp import Placement, Recipe, train
from distbp.errors import ClusterError, TerminatedRunError

RECIPE = Recipe.model_validate({"model": {"hidden": [8]}, "global_batch_size": 500, "epochs": 1})


@pytest.fixture(scope="module")
def two_cpus() -> Iterator[None]:
    from distbp.backends.ray.cluster import RayCluster

    cluster = RayCluster("local", num_cpus=2)
    yield
    cluster.close()


@pytest.fixture
def make_room(request) -> Iterator:
    request.getfixturevalue("two_cpus")
    from distbp.backends.ray.placement import Reservation

    made = []

    def make(**options) -> Reservation:
        made.append(Reservation(1, **options))
        return made[-1]

    yield make
    for room in made:
        room.release()


class Said(logging.Handler):
    """The log lines of distbp, and an event that the first of them sets."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self.something = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.something.set()


@pytest.fixture
def said() -> Iterator[Said]:
    logger, handler = logging.getLogger("distbp"), Said()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_places_are_counted_by_node_and_dead_nodes_have_none():
    from distbp.backends.ray.placement import count_places

    nodes = [
        {"Alive": True, "Resources": {"CPU": 3.0}},
        {"Alive": True, "Resources": {"CPU": 1.0}},
        {"Alive": True, "Resources": {}},
        {"Alive": False, "Resources": {"CPU": 8.0}},
    ]
    assert [count_places(nodes, cpus) for cpus in (1, 2, 3, 4)] == [4, 1, 1, 0]


@pytest.mark.ray
def test_room_for_two_is_granted_whole_after_another_gave_its_half_back(make_room, said):
    first, second = make_room(), make_room()
    first.hold(1)
    waiting = threading.Thread(target=second.hold, args=(2,))
    waiting.start()
    assert said.something.wait(30)
    assert waiting.is_alive()
    assert not second.is_whole
    assert "2 workers with 1 CPU each together or not at all" in said.lines[0]
    assert "1 of the cluster's 2 CPUs are free" in said.lines[0]
    first.release()
    waiting.join(30)
    assert second.is_whole


@pytest.mark.ray
def test_room_that_is_held_is_kept(make_room):
    room = make_room()
    room.hold(2)
    group = room.options(0)["scheduling_strategy"].placement_group
    room.hold(2)
    assert room.options(1)["scheduling_strategy"].placement_group == group


@pytest.mark.ray
def test_cluster_that_stays_too_small_is_a_sentence(make_room):
    with pytest.raises(ClusterError, match="needs 3 workers with 1 CPU each and the cluster has places for 2; use "):
        make_room(grow_timeout_s=0.0).hold(3)


@pytest.mark.ray
def test_signal_ends_a_run_that_waits_in_line_at_once(make_room, said, tmp_path):
    make_room().hold(1)
    main = threading.main_thread().ident
    alarm = threading.Thread(target=lambda: said.something.wait(30) and signal.pthread_kill(main, signal.SIGTERM))
    said.addFilter(lambda record: "waiting in line" in record.getMessage())
    alarm.start()
    with pytest.raises(TerminatedRunError, match="before its workers were ready"):
        train(RECIPE, Placement(backend="ray", workers=2, storage=str(tmp_path)), name="run")
    alarm.join()
    assert said.lines


@pytest.mark.ray
@pytest.mark.usefixtures("two_cpus")
def test_runs_that_need_the_whole_cluster_take_turns_and_end_with_the_same_bytes(tmp_path):
    import ray

    @ray.remote(num_cpus=0)
    def run(name: str) -> str:
        placement = Placement(backend="ray", workers=2, storage=str(tmp_path))
        return train(RECIPE, placement, name=name).digest

    found = ray.get([run.remote(name) for name in ("a", "b", "c")], timeout=120)
    assert set(found) == {train(RECIPE, Placement(storage=str(tmp_path)), name="local").digest}
