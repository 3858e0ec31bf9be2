"""With `server_outlives: node` another node keeps each server's state, so that a lost node redoes nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from test_members import NUM_STEPS, expected, make_roster, problem  # noqa: F401 - fixtures

from distbp.backends.base import join_snapshots
from distbp.group.lines import PeerLostError
from distbp.group.member import Member
from distbp.group.spare import align_reports, choose_step
from distbp.nn.blas import one_blas_thread
from distbp.nn.digests import digest


@pytest.fixture(autouse=True, scope="module")
def _pinned_blas():
    with one_blas_thread():
        yield


def start_members(pool, problem, nodes, num_servers):  # noqa: F811
    worker, server, state, _ = problem
    roster, boards = make_roster(nodes, num_servers, len(state.parameters))
    roster = replace(roster, has_far_spares=True)
    members = [Member(rank, roster, worker, server, state) for rank in range(len(nodes))]
    list(pool.map(lambda member, board: member.connect(board, state), members, boards))
    return members


def gather(members, num_servers):
    """Return what the members can give together, as the driver asks for it; None if a slice is missing."""
    found = {}
    for rank, member in members.items():
        for server, offer in member.offers().items():
            if server == rank or server not in found:
                found[server] = member, offer
    step = choose_step({server: offer for server, (_, offer) in found.items()}, num_servers)
    if step is None:
        return None
    return join_snapshots(align_reports([found[server][0].spare(server, step) for server in sorted(found)]))


@pytest.mark.parametrize(("nodes", "num_servers"), [("ab", 1), ("ab", 2), ("abc", 3), ("aab", 2), ("abab", 2)])
def test_any_node_may_be_lost_after_any_step(problem, expected, nodes, num_servers):  # noqa: F811
    worker, server, _, orders = problem
    for lost in sorted(set(nodes)):
        with ThreadPoolExecutor(len(nodes)) as pool:
            members = start_members(pool, problem, nodes, num_servers)
            for order in orders[:-1]:
                list(pool.map(lambda member, order=order: member.run([order]), members))
                left = {rank: member for rank, member in enumerate(members) if nodes[rank] != lost}
                whole = join_snapshots([member.snapshot() for member in members[:num_servers]])
                found = gather(left, num_servers)
                assert found is not None
                assert found.state.step == order.step + 1
                assert found.reports == whole.reports
                for ours, theirs in zip(
                    (found.state.parameters, *found.state.moments),
                    (whole.state.parameters, *whole.state.moments),
                    strict=True,
                ):
                    assert np.array_equal(ours, theirs)
            for member in members:
                member.close()
        with ThreadPoolExecutor(1) as pool:  # the rest from what was left, by one member alone
            (last,) = start_members(pool, (worker, server, found.state, orders), "a", 1)
            reports, _ = last.run(orders[-1:])
            assert (reports[0].checksum, digest(last.snapshot().state.parameters)) == (expected[0][-1], expected[1])
            last.close()


@pytest.mark.parametrize("num_servers", [1, 3])
def test_a_node_that_ends_in_the_middle_of_a_step_leaves_a_whole_state(problem, expected, num_servers):  # noqa: F811
    """Its lines are cut at any moment, while all steps are under way."""
    for delay_s in (0.0, 0.002, 0.004, 0.008, 0.016):
        with ThreadPoolExecutor(4) as pool:
            members = start_members(pool, problem, "abc", num_servers)
            running = [pool.submit(member.run, problem[3]) for member in members]
            with suppress(TimeoutError):
                running[0].result(timeout=delay_s)
            members[0].cut()
            for future in running:
                with suppress(PeerLostError):
                    future.result(timeout=30)
            found = gather({1: members[1], 2: members[2]}, num_servers)
            assert found is not None
            assert 0 <= found.state.step <= NUM_STEPS
            checksums = [report.checksum for report in found.reports]
            assert checksums == expected[0][: found.state.step]
            for member in members:
                member.close()
        with ThreadPoolExecutor(1) as pool:
            (last,) = start_members(pool, (*problem[:2], found.state, problem[3]), "a", 1)
            last.run(problem[3][found.state.step :])
            assert digest(last.snapshot().state.parameters) == expected[1]
            last.close()


def test_on_one_node_nobody_keeps_anything_for_another(problem):  # noqa: F811
    with ThreadPoolExecutor(2) as pool:
        members = start_members(pool, problem, "aa", 2)
        assert [sorted(member.offers()) for member in members] == [[0, 1], [0, 1]]
        list(pool.map(lambda member: member.run(problem[3]), members))
        for member in members:
            member.close()
