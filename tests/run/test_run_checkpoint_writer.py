from __future__ import annotations

import threading

import pytest

from distbp.errors import StorageError
from distbp.run import CheckpointStore, CheckpointWriter


class SlowStore:
    """Saves nothing until `gate` opens; remembers what it was asked to save."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.started = threading.Event()
        self.saved: list[int] = []

    def save(self, checkpoint, _best) -> None:
        self.started.set()
        assert self.gate.wait(5)
        self.saved.append(checkpoint.step)


@pytest.fixture
def slow():
    store = SlowStore()
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
    assert writer.seconds > 0


def test_slow_storage_gets_the_newest_and_does_not_hold_up_training(slow, make_checkpoint):
    with CheckpointWriter(slow) as writer:
        writer.submit(make_checkpoint(1))
        assert slow.started.wait(5)
        for step in (2, 3, 4):
            writer.submit(make_checkpoint(step))
        slow.gate.set()
    assert slow.saved == [1, 4]


def test_waiting_best_is_written_before_a_later_one(slow, make_checkpoint):
    with CheckpointWriter(slow) as writer:
        writer.submit(make_checkpoint(1))
        assert slow.started.wait(5)
        writer.submit(make_checkpoint(2), best=True)
        blocked = threading.Thread(target=writer.submit, args=(make_checkpoint(3),))
        blocked.start()
        blocked.join(0.05)
        assert blocked.is_alive()
        slow.gate.set()
        blocked.join(5)
        assert not blocked.is_alive()
    assert slow.saved == [1, 2, 3]


@pytest.mark.parametrize("error", [StorageError("full"), RuntimeError("odd")])
@pytest.mark.parametrize("surfaces_in", ["wait", "close", "submit"])
def test_error_of_the_thread_surfaces_once(run, make_checkpoint, monkeypatch, error, surfaces_in):
    store = CheckpointStore(run, keep=1)
    writer = CheckpointWriter(store)
    with monkeypatch.context() as patch:
        failed = threading.Event()

        def fail(*_: object) -> None:
            failed.set()
            raise error

        patch.setattr(store, "save", fail)
        writer.submit(make_checkpoint(1))
        assert failed.wait(5)
        if surfaces_in == "submit":
            with writer._condition:
                assert writer._condition.wait_for(lambda: writer._error is not None, 5)
        call = {"wait": writer.wait, "close": writer.close, "submit": lambda: writer.submit(make_checkpoint(2))}
        with pytest.raises(StorageError, match=r"full|cannot write the checkpoint of step 1: .*odd"):
            call[surfaces_in]()
    writer.close()


def test_closed_writer_takes_no_more(run, make_checkpoint):
    writer = CheckpointWriter(CheckpointStore(run, keep=1))
    writer.close()
    with pytest.raises(ValueError, match="after close"):
        writer.submit(make_checkpoint(1))
