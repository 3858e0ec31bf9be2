"""Faults as values, and how people write them: worker:1@40, server@60, driver@80, worker:0@20x10. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from distbp.errors import ConfigError

Action = Literal["kill", "hang", "slow", "preempt"]
Target = Literal["worker", "server", "driver"]

_PATTERN = re.compile(r"(worker|server|driver)(?::(\d{1,6}))?@(\d{1,12})(?:x(\d{1,6}(?:\.\d{1,6})?))?")
_EXAMPLES = {
    "kill": "worker:1@40, server@60 or driver@80",
    "hang": "worker:2@30",
    "slow": "worker:0@20x10",
    "preempt": "worker:1@40",
}
_OF_DRIVER = ("kill", "preempt")


@dataclass(frozen=True)
class Fault:
    """Something done to one process once `step` steps are done. factor: how many times slower; 1 for others.

    rank: of the worker, or which of the servers.
    """

    action: Action
    target: Target
    rank: int
    step: int
    factor: float = 1.0

    @property
    def is_notice_to_driver(self) -> bool:
        """Whether the driver is told to go, after which it ends by itself."""
        return (self.action, self.target) == ("preempt", "driver")

    def __str__(self) -> str:
        who = "driver" if self.target == "driver" else f"{self.target}:{self.rank}"
        return f"{self.action} {who}@{self.step}" + (f"x{self.factor:g}" if self.action == "slow" else "")


def parse_fault(action: Action, text: str) -> Fault:
    """Return the fault that `text` describes. Raises ConfigError."""
    found = _PATTERN.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"--{action} {text}: expected who@step, such as {_EXAMPLES[action]}")
    target, rank, step, factor = found.groups()
    _check_shape(action, text, target, rank, factor)
    return Fault(action, cast(Target, target), int(rank or 0), int(step), float(factor or 1.0))


def check_steps(faults: Sequence[Fault], num_steps: int) -> None:
    """Raise ConfigError for a fault that a run of `num_steps` would never reach."""
    for fault in faults:
        if fault.step >= num_steps:
            raise ConfigError(
                f"'{fault}' would never happen: the run has {num_steps} steps; use a step from 0 to {num_steps - 1}"
            )


def check_ranks(faults: Sequence[Fault], num_workers: int) -> None:
    """Raise ConfigError for a fault on a worker that a run with `num_workers` never has."""
    for fault in faults:
        if fault.target != "driver" and fault.rank >= num_workers:
            raise ConfigError(
                f"'{fault}': the run has workers 0 to {num_workers - 1}; use one of them, or --workers {fault.rank + 1}"
            )


def _check_shape(action: Action, text: str, target: str, rank: str | None, factor: str | None) -> None:
    if target == "worker" and rank is None:
        raise ConfigError(f"--{action} {text}: which worker? Write for example {text.replace('worker', 'worker:0', 1)}")
    if target == "driver" and (rank is not None or action not in _OF_DRIVER):
        raise ConfigError(
            f"--{action} {text}: there is one driver, and it can only be killed, as in --kill driver@80, or preempted"
        )
    if action == "slow" and (factor is None or float(factor) <= 1):
        raise ConfigError(f"--slow {text}: how many times slower? Write a factor above 1, such as {_EXAMPLES['slow']}")
    if action != "slow" and factor is not None:
        raise ConfigError(f"--{action} {text}: x{factor} is for --slow; leave it out")
