"""What a probe has measured, kept in a folder as studies keep it: a probe that was stopped goes on from there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from distbp.config import Config, Placement
from distbp.lab.lab import Lab, Measurement
from distbp.lab.session import open_lab
from distbp.lab.trial import plan_for
from distbp.machine.cores import count_cores
from distbp.study.identity import identify_training

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True)
class Keeping:
    """Carries out measurements; each is stored when it ends, or none is where there is no lab."""

    lab: Lab | None = None

    def carry_out(self, key: str, call: Callable[[A], T], argument: A, kind: type[T]) -> T:
        """Return call(argument), a dataclass `kind`, or what an earlier session stored under `key`.

        Raises InterruptedRunError for a signal, which says what is kept.
        """
        if self.lab is None:
            return call(argument)
        (result,) = self.lab.measure(key, [Measurement(key, call, argument, kind)])
        return result

    def seconds_spent(self, prefix: str) -> float:
        """Return the seconds of the stored measurements whose keys begin with `prefix`."""
        return 0.0 if self.lab is None else self.lab.seconds_spent(prefix)


@contextmanager
def keep_in(folder: str | None, config: Config, budget_s: float, use_ray: bool) -> Iterator[Keeping]:
    """Yield what keeps a probe's measurements in `folder`; None keeps nothing.

    Raises ConfigError if the folder holds another study, or a probe of other settings, data or another machine;
    StorageError if it cannot be written.
    """
    if folder is None:
        yield Keeping()
        return
    identity = _identify(config, budget_s, use_ray)
    with open_lab(Path(folder), identity, Placement(), lambda _: None) as lab:
        yield Keeping(lab)


def _identify(config: Config, budget_s: float, use_ray: bool) -> dict[str, Any]:
    """Return what must be the same when a probe goes on: steps of another machine take other times."""
    return {
        "study": "advise",
        **identify_training(config.recipe, plan_for(config.recipe)),
        "seconds": budget_s,
        "uses_ray": use_ray,
        "address": config.placement.address,
        "machine": f"{os.uname().nodename}, {count_cores()} cores",
    }
