"""How long a run stands still after a kill -9: from the signal to the next step done, for many kills.

    python tests/chaos/recovery_times.py [--kills 30]

Three cases: a worker dies and others go on; the parameter server dies and its state comes from a checkpoint; the only
worker dies and a new one has to start first.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass, field

from distbp import Placement, Recipe, train
from distbp.backends import make_backend
from distbp.drill import Fault
from distbp.drill.backend import DrillBackend

STEPS_BETWEEN = 25


@dataclass(frozen=True)
class Case:
    """Who is killed in a run with so many workers."""

    name: str
    workers: int
    target: str
    rank: int


CASES = (
    Case("a worker of 3", 3, "worker", 2),
    Case("the server of 3", 3, "server", 0),
    Case("the only worker", 1, "worker", 0),
)


@dataclass
class Told:
    """What the drill's backend tells."""

    back_s: list[float] = field(default_factory=list)

    def __call__(self, kind: str, _number: int, seconds: float) -> None:
        if kind == "back":
            self.back_s.append(seconds)


class FullGroupBackend(DrillBackend):
    """Strikes only when as many workers are there as the run may have."""

    def __init__(self, placement: Placement, faults: dict[int, Fault], told: Told):
        super().__init__(make_backend(placement), faults, told)
        self._num_wanted = placement.max_workers

    def _find(self, fault: Fault) -> int | None:
        return super()._find(fault) if self.num_workers == self._num_wanted else None


def measure(case: Case, num_kills: int, expected: str | None) -> tuple[list[float], str]:
    """Return the seconds of every kill and the digest. Raises AssertionError if it is not as expected."""
    faults = {n: Fault("kill", case.target, case.rank, STEPS_BETWEEN * (n + 1)) for n in range(num_kills)}
    recipe = Recipe.model_validate({"model": {"hidden": [128]}, "epochs": STEPS_BETWEEN * (num_kills + 2) // 23 + 1})
    told = Told()
    with tempfile.TemporaryDirectory() as storage:
        placement = Placement(backend="ray", workers=case.workers, storage=storage, checkpoint_every_steps=20)
        found = train(
            recipe,
            placement.model_copy(update={"max_failures": -1}),
            connect=lambda placement: FullGroupBackend(placement, faults, told),
        )
        whole = expected or train(recipe, Placement(workers=1, storage=storage)).digest
    assert found.digest == whole
    assert len(told.back_s) == num_kills
    return told.back_s, whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    num_kills = parser.parse_args().kills
    digest = None
    for case in CASES:
        seconds, digest = measure(case, num_kills, digest)
        median, longest = statistics.median(seconds), max(seconds)
        print(f"{case.name}: {len(seconds)} kills, median {median:.3f} s, longest {longest:.3f} s")


if __name__ == "__main__":
    main()
