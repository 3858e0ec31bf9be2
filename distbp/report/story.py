"""What a run's directory tells of it, read into values. Works for runs under way, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from distbp.config import Config
from distbp.run import RunDirectory, StepRecord
from distbp.run.event_words import describe_event
from distbp.run.records import find_gaps
from distbp.text.masking import mask_secrets

MAX_POINTS = 300
"""More than a curve on a page can show."""
ACCOUNTS = {
    "work_s": "steps that count",
    "waiting_s": "waiting for workers",
    "recomputing_s": "steps done again",
    "checkpointing_s": "waiting for checkpoints",
    "data_s": "waiting for data",
}


@dataclass(frozen=True)
class Evaluated:
    """The validation examples after an epoch. accuracy: None for regression."""

    step: int
    loss: float
    accuracy: float | None


@dataclass(frozen=True)
class TimelineEntry:
    """Something worth telling: since the run began, in seconds of the clock."""

    after_s: float
    step: int | None
    text: str
    is_trouble: bool


@dataclass(frozen=True)
class StepTimes:
    """Median seconds of one step: the slowest worker's computing, gradients and parameters under way, the commit.

    data_s: waiting for data, of which it is the mean: few steps wait, those that begin a block.
    """

    compute_s: float
    transfer_s: float
    commit_s: float
    data_s: float = 0.0

    @property
    def total_s(self) -> float:
        """The whole step."""
        return self.compute_s + self.transfer_s + self.commit_s + self.data_s


@dataclass(frozen=True)
class RunStory:
    """One run. result: the fields of result.json, None while it has not ended; losses: (steps, mean losses).

    data: fingerprints of its training and validation data; None of a run of distbp 0.1.0, which did not log them.
    """

    name: str
    url: str
    state: str
    config: Config
    numerics: Mapping[str, Any]
    result: Mapping[str, Any] | None
    num_steps: int
    losses: tuple[Sequence[float], Sequence[float]]
    evaluations: Sequence[Evaluated]
    times: StepTimes | None
    timeline: Sequence[TimelineEntry]
    data: Mapping[str, Any] | None = None

    @property
    def accuracy(self) -> float | None:
        """On the validation examples: of the final parameters, else the last one measured."""
        final: float | None = self._final("validation_accuracy")
        if final is None and self.evaluations:
            return self.evaluations[-1].accuracy
        return final

    @property
    def digest(self) -> str | None:
        """Of the final parameters."""
        digest: str | None = self._final("digest")
        return digest

    @property
    def accounts(self) -> dict[str, float]:
        """Seconds of a finished run by what they went into; {} while it has not ended."""
        result = self.result or {}
        return {text: float(result[key]) for key, text in ACCOUNTS.items() if key in result}

    def _final(self, key: str) -> Any:
        return None if self.result is None else self.result.get(key)


def read_story(url: str) -> RunStory:
    """Return what the run at `url` tells. Raises CheckpointError if there is none or it is damaged, StorageError."""
    run = RunDirectory.open(url)
    records, events, result = run.read_steps(), run.read_events(), run.read_result()
    return RunStory(
        name=run.name,
        url=run.url,
        state="finished" if result is not None else ("running" if run.is_locked() else "stopped"),
        config=run.read_config(),
        numerics=run.read_numerics(),
        result=result,
        num_steps=records[-1].step if records else 0,
        losses=_thin_out(records),
        evaluations=_read_evaluations(events),
        times=_average(records),
        timeline=[*_read_gaps(records), *_read_timeline(events)],
        data=next((event.get("data") for event in reversed(events) if event["kind"] == "started"), None),
    )


def list_differences(stories: Sequence[RunStory]) -> list[tuple[str, list[str]]]:
    """Return (field, its value in each run) for every field of the configuration in which the runs differ."""
    flat = [dict(_flatten(story.config.model_dump(mode="json"))) for story in stories]
    return [
        (key, [_show(values.get(key)) for values in flat])
        for key in flat[0]
        if len({_show(v.get(key)) for v in flat}) > 1
    ]


def _thin_out(records: Sequence[StepRecord]) -> tuple[Sequence[float], Sequence[float]]:
    """Return the means of up to MAX_POINTS stretches of equal length; the first point is never averaged with others."""
    if not records:
        return (), ()
    steps = np.array([record.step for record in records], float)
    losses = np.array([record.loss for record in records])
    if len(records) <= MAX_POINTS:
        return list(steps), list(losses)
    parts = np.array_split(np.arange(len(records)), MAX_POINTS)
    return [float(steps[part].mean()) for part in parts], [float(losses[part].mean()) for part in parts]


def _read_evaluations(events: Sequence[Mapping[str, Any]]) -> list[Evaluated]:
    """Return one for each step, the newest: an epoch that is done again is evaluated again."""
    found = {e["step"]: Evaluated(e["step"], e["loss"], e.get("accuracy")) for e in events if e["kind"] == "evaluated"}
    return [found[step] for step in sorted(found)]


def _average(records: Sequence[StepRecord]) -> StepTimes | None:
    """Return the medians: a pause, or the first step of a session, is not a step like others.

    Of waiting for data the mean: where fewer than half of the steps wait, its median is 0.
    """
    if not records:
        return None
    parts = np.array([(record.compute_s, record.wait_s, record.commit_s) for record in records])
    compute_s, transfer_s, commit_s = map(float, np.median(parts, axis=0))
    return StepTimes(compute_s, transfer_s, commit_s, float(np.mean([record.data_s for record in records])))


def _read_gaps(records: Sequence[StepRecord]) -> list[TimelineEntry]:
    """Return a line for each part of the step log that is lost, which curves and times leave out."""
    return [
        TimelineEntry(0.0, first, f"steps {first} to {last} are missing in the step log: a part of it was lost", True)
        for first, last in find_gaps(records)
    ]


def _read_timeline(events: Sequence[Mapping[str, Any]]) -> list[TimelineEntry]:
    """Return starts, losses, recoveries and ends; what happens all the time is left out."""
    began = _time(events[0]) if events else 0.0
    found = []
    for event in events:
        text = describe_event(event)
        if text is not None:
            is_trouble = event["kind"] in ("lost", "ended", "refused")
            found.append(TimelineEntry(_time(event) - began, event.get("step"), text, is_trouble))
    return found


def _time(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


def _flatten(values: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        found += _flatten(value, f"{path}{key}.") if isinstance(value, Mapping) else [(f"{path}{key}", value)]
    return found


def _show(value: Any) -> str:
    return "-" if value is None else mask_secrets(str(value))
