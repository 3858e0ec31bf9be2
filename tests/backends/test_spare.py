"""A server's slice outlives its server: also where a commit was torn, and where other servers could not follow."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from distbp.cli.app import run as run_command
from distbp.config import Optimizer
from distbp.group.links import SharedMemory
from distbp.group.spare import Offer, Spare, align_reports, choose_step
from distbp.nn.blas import one_blas_thread
from distbp.nn.digests import BLOCK
from distbp.protocol.messages import Partial, ServerTask, ShardResult, StepOrder, TrainState
from distbp.protocol.server import NUM_REMEMBERED_REPORTS, ParameterServer
from distbp.run import RunDirectory

SIZE = 2 * BLOCK + 100  # three blocks, the last one short
OPTIMIZERS = [Optimizer(), Optimizer(kind="adamw", learning_rate=0.01), Optimizer(clip_norm=0.5, nesterov=True)]


@pytest.fixture(autouse=True, scope="module")
def _pinned_blas():
    with one_blas_thread():
        yield


class TornError(Exception):
    """The process ended here."""


class Slice:
    """A server with a spare, and what another process sees of it: the same memory, mapped again."""

    def __init__(self, optimizer: Optimizer, size: int = SIZE):
        rng = np.random.default_rng(0)
        num_moments = 2 if optimizer.kind == "adamw" else 1
        start = rng.standard_normal(size).astype(np.float32)
        state = TrainState(7, start, tuple(np.zeros_like(start) for _ in range(num_moments)))
        self.memory = SharedMemory(size, np.float32)
        self.own = Spare(self.memory.array, num_moments)
        self.server = ParameterServer(ServerTask(optimizer, ()), state, 0, self.memory.array, self.own)
        again = SharedMemory(self.own.memory.array.size, np.uint8, os.dup(self.own.memory.descriptor))
        self.seen = Spare(self.memory.array, num_moments, again)

    def commit(self) -> None:
        step = self.server.num_steps
        rng = np.random.default_rng(step)
        gradient = rng.standard_normal(len(self.memory.array)).astype(np.float32)
        result = ShardResult((Partial(0, 1, gradient, 1.5 * step, 10),), 0.25)
        self.server.commit(StepOrder(step, 3, 0, 10, 0.1, 1), [result])

    def close(self) -> None:
        for part in (self.own, self.seen, self.memory):
            part.close()


@pytest.fixture
def make_slice():
    made = []

    def make(*arguments) -> Slice:
        made.append(Slice(*arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


def same(found, expected) -> bool:
    arrays = zip((found.state.parameters, *found.state.moments), (expected.parameters, *expected.moments), strict=True)
    return found.state.step == expected.step and all(np.array_equal(a, b) for a, b in arrays)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "adamw", "clipped"])
def test_another_process_reads_the_newest_state_and_the_one_before(make_slice, optimizer):
    one = make_slice(optimizer)
    assert one.seen.offer == Offer(7, 7)
    before = one.server.snapshot().state
    for _ in range(3):
        one.commit()
        after = one.server.snapshot()
        assert one.seen.offer == Offer(after.state.step - 1, after.state.step)
        assert same(one.seen.read(after.state.step), after.state)
        assert same(one.seen.read(before.step), before)
        assert one.seen.read(after.state.step).reports == after.reports
        assert one.seen.read(before.step).reports == after.reports[:-1]
        before = after.state
    assert one.seen.read(7) is None
    assert one.seen.read(11) is None


@pytest.mark.parametrize("weight", [None, 3.5, 0.0])
def test_a_report_comes_back_whole(make_slice, weight):
    one = make_slice(OPTIMIZERS[0])
    gradient = np.zeros(SIZE, np.float32)
    result = ShardResult((Partial(0, 1, gradient, 1.5, 10, weight=weight),), 0.25, 0.125)
    report = one.server.commit(StepOrder(7, 3, 0, 10, 0.1, 1), [result])
    assert report.weight == weight
    assert one.seen.read(8).reports == (report,)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "adamw", "clipped"])
@pytest.mark.parametrize("num_blocks", [0, 1, 2, 3])
@pytest.mark.parametrize("is_kept", [False, True])
def test_a_commit_that_is_torn_at_any_block_is_undone(make_slice, optimizer, num_blocks, is_kept, monkeypatch):
    """The process ends before or after a block's old values are kept, with the blocks before it updated."""
    one = make_slice(optimizer)
    one.commit()
    before = one.server.snapshot().state
    keep, kept = one.own.keep, []

    def keep_or_end(block):
        if len(kept) == num_blocks:
            if is_kept:
                keep(block)
                one.memory.array[block] = np.nan  # the update, half way
            raise TornError
        kept.append(block)
        keep(block)

    def end(report):
        raise TornError if num_blocks == 3 else AssertionError(report)

    monkeypatch.setattr(one.own, "keep", keep_or_end)
    monkeypatch.setattr(one.own, "finish", end)
    with pytest.raises(TornError):
        one.commit()
    assert one.seen.offer == Offer(8, 8)
    assert same(one.seen.read(8), before)
    assert one.seen.read(7) is None


def test_what_changes_while_it_is_read_is_not_given(make_slice, monkeypatch):
    one = make_slice(Optimizer())
    one.commit()
    monkeypatch.setattr(one.seen, "_read_reports", lambda _: one.commit())
    assert one.seen.read(8) is None


def test_of_many_reports_the_newest_are_kept(make_slice):
    one = make_slice(Optimizer(), 8)
    for _ in range(NUM_REMEMBERED_REPORTS + 5):
        one.commit()
    found = one.seen.read(one.server.num_steps)
    assert found.reports == one.server.snapshot().reports
    before = one.seen.read(one.server.num_steps - 1)
    aligned = align_reports([found, before])
    assert [len(snapshot.reports) for snapshot in aligned] == [NUM_REMEMBERED_REPORTS - 1] * 2
    assert aligned[0].reports[-1].step == aligned[1].reports[-1].step + 1


@pytest.mark.parametrize(
    ("offers", "step"),
    [
        ({0: Offer(5, 5)}, 5),
        ({0: Offer(4, 5), 1: Offer(4, 5)}, 5),
        ({0: Offer(4, 5), 1: Offer(4, 4)}, 4),
        ({0: Offer(5, 5), 1: Offer(4, 4)}, None),
        ({0: Offer(4, 5)}, None),
        ({}, None),
    ],
)
def test_the_newest_step_is_chosen_that_every_slice_can_give(offers, step):
    num_servers = 1 if offers == {0: Offer(5, 5)} else 2
    assert choose_step(offers, num_servers) == step


@pytest.mark.ray
@pytest.mark.parametrize("servers", [1, 3])
def test_killed_servers_cost_no_step_and_change_no_byte(tmp_path, capfd, servers):
    recipe = {"model": {"hidden": [600, 400]}, "global_batch_size": 240, "microbatch_size": 30, "epochs": 25}
    recipe["optimizer"] = {"kind": "adamw", "learning_rate": 0.001}
    settings = ["--set", f"recipe={json.dumps(recipe)}", "--workers", "3", "--storage", str(tmp_path)]
    settings += ["--set", f"placement.servers={servers}", "--set", "placement.checkpoint_every_steps=10000"]
    code = run_command(["drill", "--kill", "server@20", "--kill", "server@90", *settings, "--json"])
    found = json.loads(capfd.readouterr().out)
    assert (code, found["same"]) == (0, True)
    assert (found["disturbed"]["recoveries"], found["disturbed"]["recomputing_s"]) == (2, 0)
    events = RunDirectory.open(found["disturbed"]["run"]).read_events()
    assert [(e["state"], e["redone"]) for e in events if e["kind"] == "recovering"] == [("server", 0)] * 2
