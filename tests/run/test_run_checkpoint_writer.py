from __future__ import annotations

import threading

import pytest

from distbp.errors import StorageError
from distbp.run import Checkpoint, CheckpointStore, CheckpointWriter, EventLog, RunDirectory


class SlowStore(CheckpointStore):
    """Saves nothing until `gate` opens; remembers what it was asked to save."""

    def __init__(self, run: RunDirectory) -> None:
        super().__init__(run, keep=10)
        self.gate = threading.Event()
        self.started = threading.Event()
        self.saved: list[int] = []

    def save(self, checkpoint: Checkpoint, best: bool = False) -> None:
        self.started.set()
        assert self.gate.wait(5)
        super().save(checkpoint, best)
        self.saved.append(checkpoint.step)


@pytest.fixture
def slow(run):
    store = SlowStore(run)
    yield store
    store.gate.set()


def test_written_checkpoints_are_there_after_wait(run, make_checkpoint):
    store = CheckpointStore(run, keep=3)
    with CheckpointWriter(store) as writer:
        writer.submit(make_checkpoint(1), best=True)
        writer.wait()
        assert store.list_steps() == [1]
        writer.submit(make_checkpoint(2))
    assert store.list_steps() == [1, 2]


def test_slow_storage_gets_the_newest_and_does_not_hold_up_training(slow, make_checkpoint):
    with CheckpointWriter(slow) as writer:
        writer.submit(make_checkpoint(1))
        assert slow.started.wait(5)
        for step in (2, 3, 4):
            writer.submit(make_checkpoint(step))
        slow.gate.set()
    assert slow.saved == [1, 4]


def test_waiting_best_is_written_before_later_ones_and_replaced_by_a_better_one(slow, make_checkpoint):
    with CheckpointWriter(slow) as writer:
        writer.submit(make_checkpoint(1))
        assert slow.started.wait(5)
        for step, best in [(2, True), (3, False), (4, True), (5, False), (6, False)]:
            writer.submit(make_checkpoint(step), best)
        assert writer.newest_waiting.step == 6
        slow.gate.set()
    assert slow.saved == [1, 4, 6]
    assert writer.newest_waiting is None


def test_a_step_that_is_not_saved_is_waited_for_up_to_a_time(slow, make_checkpoint):
    with CheckpointWriter(slow) as writer:
        writer.submit(make_checkpoint(7))
        assert not writer.wait_for_step(1, timeout_s=0.01)
        slow.gate.set()
        assert writer.wait_for_step(7, timeout_s=5)
        assert not writer.wait_for_step(8, timeout_s=0.01)


@pytest.mark.parametrize("call", ["wait", "close", "submit", "append"])
def test_a_defect_in_the_thread_surfaces_everywhere(run, make_checkpoint, monkeypatch, call):
    store = CheckpointStore(run, keep=1)
    monkeypatch.setattr(store, "save", lambda *_: 1 / 0)
    writer = CheckpointWriter(store)
    writer.submit(make_checkpoint(1))
    with pytest.raises(StorageError, match="ZeroDivisionError") as caught:
        writer.wait()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    calls = {
        "wait": writer.wait,
        "close": writer.close,
        "submit": lambda: writer.submit(make_checkpoint(2)),
        "append": lambda: EventLog(run).append("x"),
    }
    with pytest.raises(StorageError, match="ZeroDivisionError"):
        calls[call]()


def test_closed_writer_takes_no_more(run, make_checkpoint):
    writer = CheckpointWriter(CheckpointStore(run, keep=1))
    writer.close()
    with pytest.raises(ValueError, match="after close"):
        writer.submit(make_checkpoint(1))
