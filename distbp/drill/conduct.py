"""drill(): an undisturbed run and a disturbed one, compared."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from distbp.config import Config
from distbp.data import prepare
from distbp.drill.disturbed import Disturbed, run_disturbed
from distbp.drill.faults import Fault, check_ranks, check_steps
from distbp.errors import ConfigError
from distbp.run import next_name
from distbp.training import Observer, Result, train
from distbp.training.plan import make_plan

logger = logging.getLogger("distbp")


@dataclass(frozen=True)
class Outcome:
    """What became of one fault. back_s: seconds until the next step was done; None if it never fired."""

    fault: str
    fired: bool
    back_s: float | None


@dataclass(frozen=True)
class DrillReport:
    """Two runs of one recipe, and what was done to the second. same: whether they end with the same bytes."""

    same: bool
    undisturbed: Result
    disturbed: Result
    outcomes: tuple[Outcome, ...]


def drill(config: Config, faults: Sequence[Fault], *, observe: Observer | None = None) -> DrillReport:
    """Train twice, the second time with `faults`, and compare.

    Without faults: a worker, the server and the driver are killed, one after the other. Both runs are kept in the
    placement's storage. observe: is called after every step of the undisturbed run.

    Raises ConfigError for faults that cannot happen, and whatever training raises.
    """
    num_steps = make_plan(config, prepare(config.recipe.data, config.recipe.seed)).num_steps
    faults = tuple(sorted(faults, key=lambda fault: fault.step)) or _default_faults(
        num_steps, config.placement.max_workers
    )
    check_steps(faults, num_steps)
    config = _on_processes(config, faults)
    check_ranks(faults, config.placement.max_workers)
    name = next_name(config.placement.storage, f"drill-{config.recipe.digest[:8]}")
    logger.info("undisturbed run")
    undisturbed = train(config.recipe, config.placement, name=f"{name}-undisturbed", resume="never", observe=observe)
    logger.info("disturbed run: %s", ", ".join(map(str, faults)))
    disturbed = run_disturbed(config, f"{name}-disturbed", dict(enumerate(faults)))
    assert disturbed.result is not None  # it ended without an error
    same = undisturbed.digest == disturbed.result.digest
    return DrillReport(same, undisturbed, disturbed.result, _outcomes(faults, disturbed))


def _default_faults(num_steps: int, num_workers: int) -> tuple[Fault, ...]:
    return (
        Fault("kill", "worker", num_workers - 1, num_steps // 4),
        Fault("kill", "server", 0, num_steps // 2),
        Fault("kill", "driver", 0, 3 * num_steps // 4),
    )


def _on_processes(config: Config, faults: Sequence[Fault]) -> Config:
    """Return the configuration with workers in processes of their own if a fault is about one of them."""
    placement = config.placement
    if placement.backend == "ray" or all(fault.target == "driver" for fault in faults):
        return config
    if placement.address is not None:
        raise ConfigError("a drill sends signals on this machine; leave placement.address out")
    logger.info("drilling on Ray, where workers are processes and can fail alone")
    return config.model_copy(update={"placement": placement.model_copy(update={"backend": "ray"})})


def _outcomes(faults: Sequence[Fault], disturbed: Disturbed) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(str(fault), number in disturbed.fired, disturbed.back_s.get(number))
        for number, fault in enumerate(faults)
    )
