"""What follows a failure: go on with who is left, wait for others, or end the run."""

from __future__ import annotations

import pickle

import pytest

from distbp.protocol.recovery import MAX_WITHOUT_STEP, GroupLostError, History, Limits, LostGroup, decide


def action(num_failures: int = 1, without_step: int = 1, left: int = 1, max_failures: int | None = 100) -> str:
    return decide(LostGroup(left), History(num_failures, without_step), Limits(max_failures, 2)).action


@pytest.mark.parametrize(("left", "expected"), [(0, "rebuild"), (1, "rebuild"), (2, "shrink"), (3, "shrink")])
def test_enough_members_left_go_on_at_once(left, expected):
    assert action(left=left) == expected


def test_failures_within_the_budget_are_recovered():
    assert [action(n, max_failures=2) for n in (1, 2, 3)] == ["rebuild", "rebuild", "give_up"]


def test_a_budget_of_zero_ends_the_run_at_the_first_failure():
    assert action(1, max_failures=0) == "give_up"


def test_without_a_budget_no_failure_is_too_many():
    assert action(10**6, 10**6, max_failures=None) == "rebuild"


def test_a_group_that_never_makes_a_step_ends_the_run_within_the_budget_too():
    found = decide(LostGroup(3), History(MAX_WITHOUT_STEP, MAX_WITHOUT_STEP), Limits(100, 1))
    assert (found.action, found.why) == ("give_up", "10 failures in a row without a step in between")


def test_the_first_failure_after_a_step_does_not_wait():
    assert decide(LostGroup(0), History(50, 1), Limits(100, 1)).backoff_s == 0


def test_failures_without_a_step_in_between_wait_longer_but_not_for_ever():
    waits = [decide(LostGroup(1), History(n, n), Limits(None, 1)).backoff_s for n in (1, 2, 3, 4, 1000)]
    assert waits == [0, 0.5, 1, 2, 30]


def test_a_lost_group_survives_its_journey_between_processes():
    lost = pickle.loads(pickle.dumps(GroupLostError("lost worker 1", 3)))
    assert (lost.reason, lost.num_left, str(lost)) == ("lost worker 1", 3, "lost worker 1")
