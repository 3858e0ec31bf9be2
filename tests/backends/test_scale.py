"""What grows with the members of a group: links, messages and what the driver sends, counted."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distbp.backends.ray.group import RayGroup
from distbp.backends.ray.pool import Joined
from distbp.config import Recipe
from distbp.group import links as links_module
from distbp.group.links import Switchboard, call
from distbp.group.roster import Membership, Roster
from distbp.nn.build import ModelSpec
from distbp.protocol.examples import Examples
from distbp.protocol.messages import Effort, StepOrder, StepReport, WorkerTask

SECRET = b"only for this test"
PER_NODE = 8


def make_roster(num_members: int, num_servers: int = 1) -> Roster:
    members = tuple(Membership(f"n{i // PER_NODE}", f"n{i // PER_NODE}", i, "") for i in range(num_members))
    return Roster(members, tuple((i, i + 1) for i in range(num_servers)), SECRET, 1.0)


class FakeActor:
    """Takes orders as a member does, and keeps how long they were on their way."""

    def __init__(self, is_server: bool, effort: Callable[[], Effort]):
        self.run = self
        self.is_server = is_server
        self.effort = effort
        self.lengths: list[int] = []
        self.paces: list[Any] = []

    def remote(self, orders: list[StepOrder], paces: Any) -> Any:
        self.lengths.append(len(pickle.dumps((orders, paces))))
        self.paces.append(paces)
        reports = [
            StepReport(order.step + 1, 0, 0.0, 1, f"{0:016x}", True, 0.0, 0.0, 0.0)
            for order in orders
            if self.is_server
        ]
        return reports, self.effort(), None


class FakeCalls:
    def ask(self, _members: Any, references: list[Any], _timeout_s: float, **_: Any) -> list[Any]:
        return references


class FakePool:
    def note(self, kind: str, text: str) -> None:
        pass


def run_group(num_members: int, efforts: Callable[[int], Effort]) -> list[FakeActor]:
    actors = [FakeActor(rank == 0, lambda rank=rank: efforts(rank)) for rank in range(num_members)]
    roster = make_roster(num_members)
    members = [Joined(rank, actor, roster.members[rank]) for rank, actor in enumerate(actors)]
    examples = Examples(np.zeros((1, 1)), np.zeros(1, np.int64), np.arange(1))
    task = WorkerTask(ModelSpec(Recipe().model, 1, 2, True, "float32"), examples, None, 0, 1, 1)
    group = RayGroup(FakePool(), members, roster, FakeCalls(), task)
    orders = (StepOrder(step, 0, 0, num_members, 0.1, num_members) for step in range(100))
    reports = list(group.run(orders, lambda: False))
    assert [report.step for report in reports] == list(range(1, 101))
    return actors


def test_an_order_is_as_long_for_a_thousand_members_as_for_ten():
    few, many = (run_group(count, lambda _: Effort(1, 1.0)) for count in (10, 1000))
    assert max(many[0].lengths) < 1.1 * max(few[0].lengths)
    assert {paces for actor in many for paces in actor.paces} == {None}


def test_every_member_is_told_new_paces_once():
    actors = run_group(4, lambda rank: Effort(1, 5.0 if rank == 3 else 1.0))
    told = [[paces for paces in actor.paces if paces is not None] for actor in actors]
    assert told[0]
    assert all(one == told[0] for one in told)
    assert len(told[0]) == len(set(told[0])) < len(actors[0].paces)


def test_more_members_than_the_kernel_lets_wait_can_call_one_of_their_node(monkeypatch):
    """Nobody takes the calls at first, so a short queue is full: the next caller waits for its turn."""
    monkeypatch.setattr(links_module, "BACKLOG", 2)
    board = Switchboard("127.0.0.1", SECRET)
    address = board.addresses["unix"]
    links: list[Any] = []
    errors: list[Exception] = []

    def ring() -> None:
        try:
            links.append(call(address, SECRET, 20.0))
        except Exception as error:
            errors.append(error)

    callers = [threading.Thread(target=ring) for _ in range(30)]
    for caller in callers:
        caller.start()
    answered = [board.accept("unix", 20.0) for _ in callers]
    for caller in callers:
        caller.join(20.0)
    assert errors == []
    assert len(links) == len(callers)
    for link in [*links, *answered]:
        link.close()
    board.close()


@pytest.mark.parametrize("num_servers", [1, 4])
def test_links_of_a_worker_do_not_grow_with_the_members(num_servers):
    links = [len(make_roster(count, num_servers).links(num_servers + 1)) for count in (64, 4096)]
    assert links[0] == links[1] <= num_servers + PER_NODE
