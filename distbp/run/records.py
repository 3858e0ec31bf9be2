"""What the lines of steps.jsonl and events.jsonl mean, and how lines that a crash left behind are read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from distbp.errors import CheckpointError
from distbp.text.json_text import decode_object, encode_line

STEPS_FILE = "steps.jsonl"
EVENTS_FILE = "events.jsonl"
_LEFT_OUT = {"replicas": (), "weight": None, "data_s": 0.0}
"""Values of a step that its line does not tell, so that most lines are short, and as they were before these fields."""


@dataclass(frozen=True)
class StepRecord:
    """One committed step.

    step counts from 1; loss: mean over the batch's examples; seconds as the driver saw them pass;
    checksum: a cheap witness of the step's numbers.
    mean_compute_s: over the workers, where compute_s is of the slowest; None in older logs.
    replicas: in rounds, a checksum of each replica's parameters after the step.
    weight: the sum of the examples' weights, None where they have none; data_s: of the worker that waited longest for
    data, no part of the other seconds. Older logs have neither.
    """

    step: int
    epoch: int
    loss: float
    num_examples: int
    compute_s: float
    wait_s: float
    commit_s: float
    checksum: str
    mean_compute_s: float | None = None
    replicas: tuple[str, ...] = ()
    weight: float | None = None
    data_s: float = 0.0

    @property
    def divisor(self) -> float:
        """What the loss is a mean over: the number of examples, or the sum of their weights."""
        return self.num_examples if self.weight is None else self.weight

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.compute_s + self.wait_s + self.commit_s + self.data_s

    def to_values(self) -> dict[str, Any]:
        """Return what a line holds; replicas, weight and data_s only where there are any."""
        return {name: value for name, value in vars(self).items() if name not in _LEFT_OUT or value != _LEFT_OUT[name]}

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """Return the record a line holds; raises ValueError if it is none.

        Unknown keys are ignored; times may lack.
        """
        try:
            return cls(
                step=int(values["step"]),
                epoch=int(values["epoch"]),
                loss=float(values["loss"]),
                num_examples=int(values["num_examples"]),
                compute_s=float(values.get("compute_s", 0.0)),
                wait_s=float(values.get("wait_s", 0.0)),
                commit_s=float(values.get("commit_s", 0.0)),
                checksum=str(values["checksum"]),
                mean_compute_s=None if values.get("mean_compute_s") is None else float(values["mean_compute_s"]),
                replicas=tuple(map(str, values.get("replicas", ()))),
                weight=None if values.get("weight") is None else float(values["weight"]),
                data_s=float(values.get("data_s", 0.0)),
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"it is no step record ({error})") from None


def encode_event(kind: str, **fields: object) -> bytes:
    """Return a line of events.jsonl that happened now: time (ISO 8601, UTC), kind and the fields."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return encode_line({"time": now, "kind": kind, **fields}).encode()


def drop_torn_line(content: bytes) -> bytes:
    """Return `content` up to its last newline: what follows was being written when its writer died."""
    return content[: content.rfind(b"\n") + 1]


def parse_events(content: bytes, url: str) -> list[dict[str, Any]]:
    """Return the objects in a log, one a line; raises CheckpointError for a damaged line, ignores a torn last one."""
    return [values for _, values in _parse_lines(content, url)]


def parse_steps(content: bytes, url: str) -> list[StepRecord]:
    """Return one record for each step, ascending; raises CheckpointError for a damaged line.

    A record of step s says that the run went on from step s - 1, so it voids every earlier record of s or later.
    """
    records: list[StepRecord] = []
    for number, values in _parse_lines(content, url):
        try:
            record = StepRecord.from_values(values)
        except ValueError as error:
            raise _make_error(url, number, error) from None
        while records and records[-1].step >= record.step:
            records.pop()
        records.append(record)
    return records


def parse_checksums(lines: Iterable[bytes], url: str) -> dict[int, int]:
    """Return a number for the checksum of each step, equal where checksums are, without holding records.

    Like `parse_steps` otherwise; the numbers are only good within this process.
    """
    found: dict[int, int] = {}
    last = 0
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):  # it was being written when its writer died
            break
        try:
            values = json.loads(line.decode())
            step, checksum = int(values["step"]), hash(str(values["checksum"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _make_error(url, number, ValueError(str(error))) from None
        for void in range(step, last + 1):
            found.pop(void, None)
        found[step], last = checksum, step
    return found


def keep_steps(content: bytes, last_step: int) -> bytes:
    """Return the lines of a step log without the torn last one and without steps after `last_step`.

    Lines that are no records are kept: this is not the place to lose evidence.
    """
    lines = drop_torn_line(content).splitlines(keepends=True)
    return b"".join(line for line in lines if not _is_after(line, last_step))


def last_step(content: bytes) -> int:
    """Return the step of the last line of a step log, 0 for an empty one; raises ValueError if it is no record."""
    line = drop_torn_line(content).rstrip(b"\n").rpartition(b"\n")[2]
    return StepRecord.from_values(decode_object(line)).step if line else 0


def last_readable_step(content: bytes) -> int:
    """Return the step of the last line of a step log that is a record, 0 if none is."""
    for line in reversed(drop_torn_line(content).splitlines()):
        try:
            return StepRecord.from_values(decode_object(line)).step
        except ValueError:
            continue
    return 0


def find_gaps(records: Sequence[StepRecord]) -> list[tuple[int, int]]:
    """Return (first, last) of each stretch of steps that has no record although later ones have."""
    steps = [0, *(record.step for record in records)]
    return [(before + 1, after - 1) for before, after in itertools.pairwise(steps) if after > before + 1]


def _is_after(line: bytes, last_step: int) -> bool:
    try:
        step = decode_object(line).get("step")
    except ValueError:
        return False
    return isinstance(step, int) and step > last_step


def _parse_lines(content: bytes, url: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(drop_torn_line(content).split(b"\n")[:-1], start=1):
        try:
            yield number, decode_object(line)
        except ValueError as error:
            raise _make_error(url, number, error) from None


def _make_error(url: str, number: int, error: ValueError) -> CheckpointError:
    return CheckpointError(f"line {number} of '{url}' is damaged: {error}; expected one JSON object, remove the line")
