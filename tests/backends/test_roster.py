"""Who talks to whom, and that a step does not look at everybody to know it."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distbp.group.roster import Membership, Roster

pytestmark = pytest.mark.slow


def make_roster(nodes: list[str], num_servers: int = 1) -> Roster:
    members = tuple(Membership(node, node, rank, "") for rank, node in enumerate(nodes))
    return Roster(members, ((0, 1),) * num_servers, b"", 1.0)


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12), st.data())
def test_members_talk_to_servers_and_to_the_leader_of_their_node(nodes, data):
    """Against the definition, pair by pair."""
    num_servers = data.draw(st.integers(1, len(nodes)))
    roster = make_roster(nodes, num_servers)
    everybody = range(len(nodes))
    leader = {rank: nodes.index(node) for rank, node in enumerate(nodes)}

    def talk(a: int, b: int) -> bool:
        return a != b and (min(a, b) < num_servers or (nodes[a] == nodes[b] and leader[a] in (a, b)))

    assert [roster.leader(rank) for rank in everybody] == list(leader.values())
    assert list(roster.leaders) == sorted(set(leader.values()))
    for rank in everybody:
        assert roster.near(rank) == [other for other in everybody if other != rank and nodes[other] == nodes[rank]]
        assert roster.links(rank) == [other for other in everybody if talk(rank, other)]


def count_instructions(call: Callable[[], object]) -> int:
    """Return how many instructions of Python `call` takes."""
    count = 0

    def trace(frame, event, _argument):
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def ask_as_a_step_does(roster: Roster, rank: int) -> Callable[[], object]:
    return lambda: (roster.leader(rank), roster.near(rank), roster.leaders, roster.links(rank))


@pytest.mark.parametrize("rank", [20, 25])
def test_what_a_worker_asks_in_a_step_costs_the_same_among_a_hundred_and_a_thousand(rank):
    """Ten members a node: the leader of a node, and another member."""
    costs = []
    for num_nodes in (10, 100):
        ask = ask_as_a_step_does(make_roster([f"n{i // 10}" for i in range(10 * num_nodes)]), rank)
        ask()  # what never changes is put together once
        costs.append(count_instructions(ask))
    assert costs[0] == costs[1] < 2000
