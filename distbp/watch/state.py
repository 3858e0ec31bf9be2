"""What is known of a run, as values computed from the lines it wrote. Pure: no files, clocks or terminals.

`Steps` and `Happened` take in the lines of the two logs; `RunState` is what a view shows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from distbp.run.event_words import TROUBLE, describe_event
from distbp.run.records import StepRecord
from distbp.text.json_text import decode_object
from distbp.watch.curve import Curve

State = Literal["waiting", "running", "recovering", "finished", "stopped", "diverged", "failed", "died", "silent"]
OVER: frozenset[State] = frozenset({"finished", "stopped", "diverged", "failed", "died"})

MEMORY_S = 20.0
"""Speed is that of about so many seconds of training."""
MAX_HAPPENINGS = 50
MAX_TEXT = 500
MAX_STEP = 2**53
_MEMBER = re.compile(r"node ([^,()]+), pid (\d+)")
_DIVISION = re.compile(r"microbatches of workers 0 to \d+ are now ([\d, ]+)$")


@dataclass(frozen=True)
class StepPace:
    """Sums over the newest steps; what is longer ago than MEMORY_S seconds of training counts less and less."""

    steps: float = 0.0
    examples: float = 0.0
    compute_s: float = 0.0
    mean_compute_s: float = 0.0
    wait_s: float = 0.0
    commit_s: float = 0.0
    data_s: float = 0.0

    def after(self, record: StepRecord) -> StepPace:
        """Return the pace with one more step."""
        kept = math.exp(-max(0.0, record.seconds) / MEMORY_S)
        mean = record.compute_s if record.mean_compute_s is None else record.mean_compute_s
        return StepPace(
            self.steps * kept + 1,
            self.examples * kept + record.num_examples,
            self.compute_s * kept + record.compute_s,
            self.mean_compute_s * kept + mean,
            self.wait_s * kept + record.wait_s,
            self.commit_s * kept + record.commit_s,
            self.data_s * kept + record.data_s,
        )

    @property
    def seconds(self) -> float:
        """Seconds of these steps."""
        return self.compute_s + self.wait_s + self.commit_s + self.data_s

    @property
    def steps_per_second(self) -> float | None:
        """None before the first step."""
        return self.steps / self.seconds if self.seconds > 0 else None

    @property
    def shares(self) -> dict[str, float]:
        """What a step's time goes into: computing (slowest worker), under way, commit; {} before the first step.

        Waiting for data is among them where there was any.
        """
        if self.seconds <= 0:
            return {}
        parts = {"computing": self.compute_s, "under way": self.wait_s, "commit": self.commit_s}
        if self.data_s > 0:  # data in memory are not waited for
            parts["waiting for data"] = self.data_s
        return {name: seconds / self.seconds for name, seconds in parts.items()}

    @property
    def evenness(self) -> float | None:
        """Mean computing time of the workers over that of the slowest: 1 is perfectly even."""
        return self.mean_compute_s / self.compute_s if self.compute_s > 0 else None


@dataclass(frozen=True)
class Steps:
    """What steps.jsonl has told so far. num_damaged: lines that were no step records."""

    last: StepRecord | None = None
    losses: Curve = field(default_factory=Curve)
    pace: StepPace = StepPace()
    steps_per_epoch: int | None = None
    num_damaged: int = 0

    def after(self, lines: Sequence[bytes]) -> Steps:
        """Return what is known after further lines."""
        records, num_damaged = _read_records(lines)
        if not records:
            return replace(self, num_damaged=self.num_damaged + num_damaged)
        pace, last, per_epoch = self.pace, self.last, self.steps_per_epoch
        for record in records:
            pace = pace.after(record)
            if last is not None and (last.step + 1, last.epoch + 1) == (record.step, record.epoch):
                per_epoch = last.step // record.epoch
            last = record
        losses = self.losses.extended((record.step, record.loss) for record in records)
        return Steps(last, losses, pace, per_epoch, self.num_damaged + num_damaged)


@dataclass(frozen=True)
class NewestEvaluation:
    """The validation examples after an epoch. accuracy: None for regression."""

    step: int
    loss: float
    accuracy: float | None


@dataclass(frozen=True)
class ToldEvent:
    """One event in words. time: Unix seconds, None if it cannot be read."""

    time: float | None
    step: int | None
    text: str
    is_trouble: bool


@dataclass(frozen=True)
class Ending:
    """The error that ended a session, by its class's name, and the reason it gave."""

    error: str
    reason: str


@dataclass(frozen=True)
class Happened:
    """What events.jsonl has told so far.

    members: the workers of the group, as node and process id. division: microbatches of each, None while equal.
    is_formed: whether there is a group that works. ending: None from the next start on.
    """

    num_steps: int | None = None
    num_workers: int | None = None
    members: tuple[str, ...] = ()
    division: tuple[int, ...] | None = None
    has_started: bool = False
    is_formed: bool = False
    is_finished: bool = False
    ending: Ending | None = None
    evaluated: NewestEvaluation | None = None
    best_accuracy: float | None = None
    accuracies: Curve = field(default_factory=Curve)
    validation_losses: Curve = field(default_factory=Curve)
    checkpoint_step: int | None = None
    checkpoint_time: float | None = None
    happenings: tuple[ToldEvent, ...] = ()
    num_damaged: int = 0

    def after(self, lines: Iterable[bytes]) -> Happened:
        """Return what is known after further lines."""
        known = self
        for line in lines:
            try:
                known = known._after_event(decode_object(line))
            except (ValueError, TypeError, KeyError, OverflowError):
                known = replace(known, num_damaged=known.num_damaged + 1)
        return known

    def _after_event(self, event: Mapping[str, Any]) -> Happened:
        kind, step = str(event["kind"]), _read_step(event.get("step"))
        known = self._remember(event, kind, step)
        if kind == "started":
            num_steps = _read_step(event.get("num_steps")) or self.num_steps
            known = replace(known, num_steps=num_steps, has_started=True, is_formed=False, is_finished=False)
            return replace(known, num_workers=None, members=(), division=None, ending=None)
        if kind == "joined":
            return replace(known, members=(*self.members, *_find_members(event)))
        if kind == "formed":
            return replace(known, is_formed=True, num_workers=int(event["workers"]), division=None)
        if kind == "lost" and "action" in event:  # without one, a worker died before it was in the group
            return replace(known, is_formed=False, members=self._members_without(event), num_workers=int(event["left"]))
        if kind == "left":
            return replace(known, members=self._members_without(event))
        if kind == "shards":
            return replace(known, division=_read_division(event))
        if kind == "evaluated" and step is not None:
            return known._after_evaluation(
                NewestEvaluation(step, float(event["loss"]), _read_number(event.get("accuracy")))
            )
        if kind == "checkpoint":
            return replace(known, checkpoint_step=step, checkpoint_time=_read_time(event))
        if kind == "ended":
            ending = Ending(str(event.get("error")), str(event.get("reason"))[:MAX_TEXT])
            return replace(known, is_formed=False, ending=ending)
        return replace(known, is_finished=True) if kind == "finished" else known

    def _members_without(self, event: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the members but for those that the event names."""
        gone = _find_members(event)
        return tuple(member for member in self.members if member not in gone)

    def _after_evaluation(self, new: NewestEvaluation) -> Happened:
        accuracies, best = self.accuracies, self.best_accuracy
        if new.accuracy is not None:
            accuracies = accuracies.extended([(new.step, new.accuracy)])
            best = new.accuracy if best is None else max(best, new.accuracy)
        losses = self.validation_losses.extended([(new.step, new.loss)])
        return replace(self, evaluated=new, best_accuracy=best, accuracies=accuracies, validation_losses=losses)

    def _remember(self, event: Mapping[str, Any], kind: str, step: int | None) -> Happened:
        text = describe_event(event)
        if text is None:
            return self
        new = ToldEvent(_read_time(event), step, text[:MAX_TEXT], kind in TROUBLE)
        return replace(self, happenings=(*self.happenings, new)[-MAX_HAPPENINGS:])


@dataclass(frozen=True)
class RunState:
    """A run as a view shows it.

    detail: a sentence about the state. seconds_left: None where not known. accounts: shares of the run's seconds by
    what they went into, as of `accounts_step`. quiet_s: since when nothing new was seen. note: trouble with seeing.
    """

    name: str
    url: str
    state: State
    detail: str = ""
    num_steps: int | None = None
    num_epochs: int | None = None
    steps: Steps = Steps()
    happened: Happened = Happened()
    seconds_left: float | None = None
    accounts: Mapping[str, float] = field(default_factory=dict)
    accounts_step: int | None = None
    recoveries: int | None = None
    digest: str | None = None
    quiet_s: float = 0.0
    note: str | None = None

    @property
    def step(self) -> int:
        """Steps done."""
        return 0 if self.steps.last is None else self.steps.last.step

    @property
    def is_over(self) -> bool:
        """Whether nobody works on it any more."""
        return self.state in OVER

    @property
    def progress(self) -> float | None:
        """The share of the steps that are done, None where not known."""
        if self.state == "finished":
            return 1.0
        return min(1.0, self.step / self.num_steps) if self.num_steps else None

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; numbers may be NaN."""
        steps, happened = self.steps, self.happened
        evaluated = happened.evaluated
        return {
            "name": self.name,
            "run": self.url,
            "state": self.state,
            "detail": self.detail,
            "note": self.note,
            "step": self.step,
            "num_steps": self.num_steps,
            "epoch": None if steps.last is None else steps.last.epoch + 1,
            "num_epochs": self.num_epochs,
            "progress": self.progress,
            "seconds_left": self.seconds_left,
            "quiet_s": round(self.quiet_s, 1),
            "loss": average_newest_losses(steps),
            "validation_loss": None if evaluated is None else evaluated.loss,
            "accuracy": None if evaluated is None else evaluated.accuracy,
            "best_accuracy": happened.best_accuracy,
            "steps_per_second": steps.pace.steps_per_second,
            "examples_per_second": steps.pace.examples / steps.pace.seconds if steps.pace.seconds > 0 else None,
            "shares": steps.pace.shares,
            "evenness": steps.pace.evenness,
            "accounts": dict(self.accounts),
            "accounts_step": self.accounts_step,
            "recoveries": self.recoveries,
            "workers": happened.num_workers,
            "members": list(happened.members),
            "division": None if happened.division is None else list(happened.division),
            "checkpoint_step": happened.checkpoint_step,
            "checkpoint_time": happened.checkpoint_time,
            "digest": self.digest,
            "damaged_lines": steps.num_damaged + happened.num_damaged,
            "happenings": [asdict(happening) for happening in happened.happenings],
            "curves": {
                "loss": steps.losses.points,
                "validation_loss": happened.validation_losses.points,
                "accuracy": happened.accuracies.points,
            },
        }


def average_newest_losses(steps: Steps) -> float | None:
    """Return the mean training loss of the newest twentieth of the curve, None before the first step."""
    if steps.last is not None and not math.isfinite(steps.last.loss):
        return steps.last.loss
    newest = steps.losses.stretches[-max(1, len(steps.losses.stretches) // 20) :]
    return sum(stretch.total for stretch in newest) / sum(stretch.count for stretch in newest) if newest else None


def judge_ending(ending: Ending) -> State:
    """Return in which state a run is that ended with this error."""
    if ending.error in ("InterruptedRunError", "TerminatedRunError", "KeyboardInterrupt"):
        return "stopped"
    return "diverged" if ending.error == "DivergedError" else "failed"


def estimate_seconds_left(steps: Steps, num_steps: int | None) -> float | None:
    """Return how long the remaining steps take at the present speed."""
    speed = steps.pace.steps_per_second
    if speed is None or num_steps is None or steps.last is None:
        return None
    return max(0, num_steps - steps.last.step) / speed


def _read_records(lines: Iterable[bytes]) -> tuple[list[StepRecord], int]:
    records, num_damaged = [], 0
    for line in lines:
        try:
            record = StepRecord.from_values(decode_object(line))
        except ValueError:
            num_damaged += 1
            continue
        seconds = (record.compute_s, record.wait_s, record.commit_s, record.data_s, record.mean_compute_s or 0.0)
        if 0 < record.step <= MAX_STEP and all(0 <= second < math.inf for second in seconds):
            records.append(record)
        else:
            num_damaged += 1
    return records, num_damaged


def _read_step(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= MAX_STEP else None


def _read_number(value: Any) -> float | None:
    return None if value is None else float(value)


def _read_time(event: Mapping[str, Any]) -> float | None:
    try:
        return datetime.fromisoformat(str(event.get("time"))).timestamp()
    except (ValueError, OverflowError):
        return None


def _find_members(event: Mapping[str, Any]) -> tuple[str, ...]:
    text = f"{event.get('text', '')} {event.get('reason', '')}"
    return tuple(f"{node} pid {pid}" for node, pid in _MEMBER.findall(text))


def _read_division(event: Mapping[str, Any]) -> tuple[int, ...] | None:
    found = _DIVISION.search(str(event.get("text")))
    return None if found is None else tuple(int(size) for size in found[1].split(", "))
