"""What follows from the trials of the links study. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distbp.lab.curves import first_below
from distbp.lab.trial import TrialResult
from distbp.study.links.cost import Links, Way, bytes_of_commit, num_commits, seconds_of_steps


@dataclass(frozen=True)
class Choice:
    """What was tuned. outer_rate, outer_momentum: None where every step is committed."""

    learning_rate: float
    outer_rate: float | None = None
    outer_momentum: float | None = None


@dataclass(frozen=True)
class Tried:
    """One way to train, tried with several choices. part_s: seconds of a step with the way's part of a batch."""

    way: Way
    part_s: float
    choices: tuple[Choice, ...]
    results: tuple[TrialResult, ...]


@dataclass(frozen=True)
class WayFinding:
    """What one way brings, with the choice that is best for it.

    steps, commits, seconds, sent_bytes: to the goal, of each host; None where no choice reached it. sent_bytes: what
    each host sends. error: the lowest at the end of the trials, all with equally many examples, and its choice.
    compute_s: what of the seconds goes into computing.
    """

    way: Way
    num_tried: int
    choice: Choice | None
    steps: int | None
    commits: int | None
    seconds: float | None
    compute_s: float | None
    sent_bytes: float | None
    error: float | None
    error_choice: Choice | None


@dataclass(frozen=True)
class LinksFindings:
    """Everything the links study found."""

    source: str
    network: str
    num_parameters: int
    num_bytes: int
    num_examples: int
    num_validation: int
    batch_size: int
    epochs: int
    links: Links
    goal: float
    one_host: tuple[WayFinding, ...]
    every_step: WayFinding
    rounds: tuple[WayFinding, ...]
    processor: str

    @property
    def best_one_host(self) -> WayFinding | None:
        """The fastest batch on one host."""
        return _fastest(self.one_host)

    @property
    def best_rounds(self) -> WayFinding | None:
        """The fastest rounds on more than one host."""
        return _fastest([found for found in self.rounds if found.way.num_hosts > 1])

    @property
    def speedup(self) -> float | None:
        """How many times sooner the best rounds reach the goal than the best of one host."""
        one, many = self.best_one_host, self.best_rounds
        return None if one is None or many is None else (one.seconds or 0.0) / (many.seconds or 1.0)

    @property
    def every_step_speedup(self) -> float | None:
        """How many times sooner hosts that commit every step reach the goal than the best of one host."""
        one, every = self.best_one_host, self.every_step
        return None if one is None or every.seconds is None else (one.seconds or 0.0) / every.seconds

    @property
    def needs_no_rounds(self) -> bool:
        """Whether committing every step over the hosts is faster than one host and than all rounds."""
        every = self.every_step_speedup
        return every is not None and every > max(1.0, self.speedup or 0.0)

    @property
    def sampling_error(self) -> float:
        """How much an error measured on so few validation examples varies by itself."""
        return float((self.goal * (1 - self.goal) / self.num_validation) ** 0.5)


def find_way(tried: Tried, goal: float, num_bytes: int, links: Links) -> WayFinding:
    """Return what a way brings: for the time to the goal and for the error at the end the best choice of each."""
    steps = [first_below(result.curve, goal) for result in tried.results]
    reached = [(count, number) for number, count in enumerate(steps) if count is not None]
    ended = [(r.curve[-1].error, number) for number, r in enumerate(tried.results) if r.ended == "cut"]
    error, of_error = min(ended) if ended else (None, None)
    error_choice = None if of_error is None else tried.choices[of_error]
    if not reached:
        return WayFinding(tried.way, len(steps), None, None, None, None, None, None, error, error_choice)
    count, best = min(reached)
    commits = num_commits(tried.way, count)
    return WayFinding(
        way=tried.way,
        num_tried=len(steps),
        choice=tried.choices[best],
        steps=count,
        commits=commits,
        seconds=seconds_of_steps(tried.way, count, tried.part_s, num_bytes, links),
        compute_s=count * tried.way.turns * tried.part_s,
        sent_bytes=commits * bytes_of_commit(num_bytes, tried.way.num_hosts),
        error=error,
        error_choice=error_choice,
    )


def _fastest(ways: Sequence[WayFinding]) -> WayFinding | None:
    return min((way for way in ways if way.seconds is not None), key=lambda way: way.seconds or 0.0, default=None)
