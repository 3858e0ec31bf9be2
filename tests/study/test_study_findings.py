"""What is concluded from given trials."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distbp.lab.curves import CurvePoint
from distbp.lab.hyperbola import Hyperbola
from distbp.lab.search import Candidate
from distbp.lab.trial import TrialResult
from distbp.study.batch_size.findings import Search, TriedCandidate, find_for_goal, judge_rules
from distbp.study.batch_size.scaling_rules import NAMES, PUBLISHED, RuleFinding

GOAL = 0.1
SLOW, FAST = Candidate(0.01, 0.0), Candidate(0.1, 0.9)


def trial(candidate: Candidate, steps: int, reaches: bool = True) -> TriedCandidate:
    curve = (CurvePoint(0, 2.0, 0.9), CurvePoint(steps, 0.3, 0.05 if reaches else 0.2))
    return TriedCandidate(candidate, TrialResult(curve, "goal" if reaches else "cut", steps))


def searches(step_s=lambda size: 1e-3 + 1e-5 * size) -> list[Search]:
    curve = Hyperbola(50, 64)
    sizes = [2**power for power in range(12)]
    return [Search(n, step_s(n), (trial(FAST, round(curve.steps(n))), trial(SLOW, 10**6))) for n in sizes]


def test_the_fewest_steps_over_all_trials_count():
    found = find_for_goal(GOAL, searches())
    assert [size.steps for size in found.sizes][:2] == [50 * 65, 50 * 33]
    assert {size.candidate for size in found.sizes} == {FAST}
    assert found.sizes[3].examples == 8 * found.sizes[3].steps


def test_seconds_are_steps_times_step_time_and_the_best_has_the_fewest():
    found = find_for_goal(GOAL, searches())
    assert found.sizes[4].seconds == pytest.approx(found.sizes[4].steps * (1e-3 + 16e-5))
    assert found.best == min(found.sizes, key=lambda size: size.seconds)
    assert found.times_faster == pytest.approx(found.sizes[-1].seconds / found.best.seconds)
    assert not found.is_bound
    assert found.fit.curve.critical_batch_size == pytest.approx(64, rel=0.05)
    assert -1 < found.small_slope < -0.85
    assert -0.3 < found.large_slope < 0


def test_a_full_batch_that_was_cut_off_gives_a_lower_bound():
    *others, full = searches()
    hopeless = replace(full, trials=(trial(SLOW, 400, reaches=False), trial(FAST, 700, reaches=False)))
    found = find_for_goal(GOAL, [*others, hopeless])
    assert found.is_bound
    assert not found.sizes[-1].reached
    assert found.sizes[-1].steps == 700
    assert found.times_faster == pytest.approx(700 * full.step_s / found.best.seconds)
    assert found.fit.num_points == len(others)


def test_a_diverged_trial_proves_nothing_about_how_long_it_takes():
    diverged = TriedCandidate(FAST, TrialResult((CurvePoint(0, 2.0, 0.9),), "diverged", 10**6))
    assert Search(8, 1.0, (diverged, trial(SLOW, 30, reaches=False))).most_steps() == 30


def test_no_goal_reached_is_no_finding():
    found = find_for_goal(GOAL, [Search(n, 1.0, (trial(SLOW, 9, reaches=False),)) for n in (1, 2, 4)])
    assert found.best is None
    assert found.times_faster is None
    assert found.fit is None


def make_rules(*means: float) -> list[RuleFinding]:
    return [
        RuleFinding(name, 4 if name == NAMES[0] else 128, 0.1, (mean - 0.001, mean + 0.001), published)
        for name, mean, published in zip(NAMES, means, PUBLISHED, strict=True)
    ]


def test_goyals_order_is_recognised():
    assert judge_rules(make_rules(0.1, 0.11, 0.12, 0.13, 0.3)).endswith("That is the order of Goyal et al.")


@pytest.mark.parametrize(
    ("means", "says"),
    [
        ((0.1, 0.15, 0.11, 0.12, 0.3), "not scaling is the worst, as theirs, and warmup hurts by 4"),
        (
            (0.1, 0.12, 0.1199, 0.2, 0.3),
            "with and without warmup differ by 0.01 where single runs differ by 0.2",
        ),
        ((0.1, 0.11, 0.3, 0.12, 0.2), "'linear' is the worst, and warmup helps by 19"),
    ],
)
def test_another_order_is_said_to_be_another(means, says):
    verdict = judge_rules(make_rules(*means))
    assert "not quite the order" in verdict
    assert says in verdict
