"""What follows from the trials of the batch-size study. Pure.

S steps, E = B S examples, seconds = S times the measured seconds of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from distbp.lab.curves import first_below, log_log_slope
from distbp.lab.gradients import GradientReading
from distbp.lab.hyperbola import HyperbolaFit, fit_hyperbola
from distbp.lab.search import Candidate
from distbp.lab.timing import EpochCount, LoopTime, StepTime
from distbp.lab.trial import TrialResult
from distbp.study.batch_size.scaling_rules import RuleFinding

SMALL_END = 4
"""How many batch sizes the slope at the small end is taken over, and as many at the large end."""


@dataclass(frozen=True)
class TriedCandidate:
    """A choice of learning rate and momentum, and how training went."""

    candidate: Candidate
    result: TrialResult


@dataclass(frozen=True)
class Search:
    """All trials of one batch size, and what a step of it takes in one process on one core."""

    batch_size: int
    step_s: float
    trials: tuple[TriedCandidate, ...]

    def with_trial(self, candidate: Candidate, result: TrialResult) -> Search:
        """Return the search with one more trial."""
        return replace(self, trials=(*self.trials, TriedCandidate(candidate, result)))

    def fastest(self, goal: float) -> tuple[int, Candidate] | None:
        """Return the fewest steps of any trial to an error below `goal`, and with which choice."""
        reached = [(first_below(tried.result.curve, goal), tried.candidate) for tried in self.trials]
        found = [(steps, candidate) for steps, candidate in reached if steps is not None]
        return min(found, key=lambda pair: pair[0], default=None)

    def most_steps(self) -> int:
        """Return the longest that a trial went on; without a goal reached, the goal needs more than these."""
        return max((tried.result.steps for tried in self.trials if tried.result.ended == "cut"), default=0)

    def best(self, goal: float) -> Candidate | None:
        """Return the choice with the fewest steps to `goal`, else the lowest error; None before the first trial."""
        found = self.fastest(goal)
        if found is not None:
            return found[1]
        lowest = [(min(point.error for point in tried.result.curve), tried.candidate) for tried in self.trials]
        return min(lowest, key=lambda pair: pair[0])[1] if lowest else None


@dataclass(frozen=True)
class SizeFinding:
    """One batch size and one goal. reached: else steps, examples and seconds are what was not enough."""

    batch_size: int
    reached: bool
    steps: int
    examples: int
    seconds: float
    candidate: Candidate | None


@dataclass(frozen=True)
class GoalFinding:
    """All batch sizes for one goal, the fitted hyperbola, and how much the best mini-batch saves.

    small_slope, large_slope: of log steps over log batch size at the two ends. best: the batch size with the fewest
    seconds. times_faster: seconds of full-batch gradient descent over those of the best mini-batch, a lower bound
    if `is_bound`.
    """

    goal: float
    sizes: tuple[SizeFinding, ...]
    fit: HyperbolaFit | None
    small_slope: float | None
    large_slope: float | None
    best: SizeFinding | None
    times_faster: float | None
    is_bound: bool


@dataclass(frozen=True)
class BatchSizeFindings:
    """Everything the batch-size study found; what its report is written from."""

    source: str
    network: str
    num_parameters: int
    num_examples: int
    num_validation: int
    measures_error: bool
    num_trials: int
    goals: tuple[GoalFinding, ...]
    searches: tuple[Search, ...]
    loops: tuple[LoopTime, ...]
    epoch: EpochCount
    hundredth: StepTime
    full: StepTime
    readings: tuple[GradientReading, ...]
    walk_batch_size: int
    rules: tuple[RuleFinding, ...]
    cores: int
    processor: str

    @property
    def hardest(self) -> GoalFinding:
        """The goal with the lowest error."""
        return self.goals[-1]

    @property
    def fraction_of_full_step(self) -> float:
        """What a step of a hundredth of the examples costs, as a fraction of a full-batch step."""
        return self.hundredth.step_s / self.full.step_s


def find_for_goal(goal: float, searches: Sequence[Search]) -> GoalFinding:
    """Return what the trials say about one goal."""
    sizes = tuple(_find_for_size(goal, search) for search in searches)
    reached = [size for size in sizes if size.reached]
    batches, steps = [size.batch_size for size in reached], [size.steps for size in reached]
    is_enough = len(reached) >= 2 * SMALL_END
    best = min(reached, key=lambda size: size.seconds, default=None)
    full = sizes[-1]
    return GoalFinding(
        goal=goal,
        sizes=sizes,
        fit=fit_hyperbola(batches, steps),
        small_slope=log_log_slope(batches[:SMALL_END], steps[:SMALL_END]) if is_enough else None,
        large_slope=log_log_slope(batches[-SMALL_END:], steps[-SMALL_END:]) if is_enough else None,
        best=best,
        times_faster=None if best is None else full.seconds / best.seconds,
        is_bound=not full.reached,
    )


def _find_for_size(goal: float, search: Search) -> SizeFinding:
    found = search.fastest(goal)
    steps, candidate = (search.most_steps(), None) if found is None else found
    return SizeFinding(
        batch_size=search.batch_size,
        reached=found is not None,
        steps=steps,
        examples=steps * search.batch_size,
        seconds=steps * search.step_s,
        candidate=candidate,
    )


def judge_rules(rules: Sequence[RuleFinding], unit: float = 100) -> str:
    """Return in a few sentences how the scaling rules compare with the order of Goyal et al.

    unit: 100 for errors in percent, 1 for losses.
    """
    small, *large = rules
    found = sorted(large, key=lambda rule: rule.mean)
    order = ", ".join(f"{rule.name} {unit * rule.mean:.3g}" for rule in found)
    percent = " (percent)" if unit == 100 else ""
    says = f"From best to worst{percent}: {order}; the small batch {unit * small.mean:.3g}. "
    if [rule.name for rule in found] == [rule.name for rule in large]:
        return says + "That is the order of Goyal et al."
    why = f"{_judge_worst(found[-1])}, and {_judge_warmup(large, unit)}"
    return f"{says}That is not quite the order of Goyal et al.: {why}."


def _judge_worst(worst: RuleFinding) -> str:
    return "not scaling is the worst, as theirs" if worst.name == "unscaled" else f"'{worst.name}' is the worst"


def _judge_warmup(large: Sequence[RuleFinding], unit: float) -> str:
    warm, cold = large[0], large[1]
    gap = unit * (cold.mean - warm.mean)
    spread = unit * max(max(rule.errors) - min(rule.errors) for rule in (warm, cold))
    if abs(gap) <= spread:
        return f"with and without warmup differ by {abs(gap):.2g} where single runs differ by {spread:.2g}"
    return f"warmup {'helps' if gap > 0 else 'hurts'} by {abs(gap):.2g}"
