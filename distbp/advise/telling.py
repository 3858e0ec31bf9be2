"""Advice as it is told: a headline, why in three sentences, what was compared, and a configuration to use."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from distbp.advise.advice import Advice, Option, Placing, describe_certainty, learning_curve, seconds_of
from distbp.advise.evidence import Evidence, advise, choose_microbatch, gather_evidence
from distbp.advise.keeping import keep_in
from distbp.config import Config, describe_config, to_values
from distbp.errors import StorageError
from distbp.lab.lab import LabObserver
from distbp.lab.trial import plan_for
from distbp.machine.aside import replace_file
from distbp.pages.words import count, duration, number, percent, times


@dataclass(frozen=True)
class Row:
    """One placing at its best batch size, as it is printed."""

    cells: tuple[str, ...]
    is_advised: bool


@dataclass(frozen=True)
class Report:
    """Everything that `distbp advise` says."""

    headline: str
    why: tuple[str, str, str]
    rows: tuple[Row, ...]
    changes: str
    config: Config
    advice: Advice
    evidence: Evidence

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document."""
        advice = self.advice
        return {
            "headline": self.headline,
            "why": list(self.why),
            "distribute": advice.is_distributed,
            **asdict(advice.option.placing),
            "global_batch_size": advice.option.batch_size,
            "learning_rate": advice.learning_rate,
            "steps": advice.num_steps,
            "seconds": advice.seconds,
            "one_worker_seconds": advice.one_worker_s,
            "times_faster": advice.times_faster,
            "sure": advice.sure,
            "goal": self.evidence.pilot.goal,
            "noise_scale": self.evidence.noise_scale,
            "critical_batch_size": self.evidence.critical.batch_size,
            "tuned": [asdict(tuned) for tuned in self.evidence.tuned],
            "probe_seconds": self.evidence.seconds,
            "config": to_values(self.config),
            "measured": [
                {"backend": backend, **asdict(m.setting), **asdict(m.parts)} for backend, m in self.evidence.measured
            ],
        }


def make_report(
    config: Config, budget_s: float, use_ray: bool, observe: LabObserver, folder: str | None = None
) -> Report:
    """Probe and advise. folder: keeps what was measured, so that a probe that was stopped goes on; None: nothing does.

    Raises ConfigError if the folder holds another study, InterruptedRunError after a signal.
    """
    with keep_in(folder, config, budget_s, use_ray) as keeping:
        found = gather_evidence(config.recipe, config.placement, budget_s, use_ray, observe, keeping)
    advice = advise(config.recipe, found)
    advised = _apply(config, advice, found)
    return Report(
        headline=_headline(advice),
        why=_explain(config, advice, found),
        rows=_rows(config, advice, found),
        changes=_describe_changes(advised),
        config=advised,
        advice=advice,
        evidence=found,
    )


def write_config(config: Config, path: str) -> None:
    """Write the whole configuration. Raises StorageError."""
    try:
        with replace_file(Path(path)) as aside:
            aside.write_text(describe_config(config) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write '{path}': {error.strerror}; choose another file with --write") from None


def _headline(advice: Advice) -> str:
    placing, batch = advice.option.placing, advice.option.batch_size
    if advice.is_distributed:
        servers = count(placing.servers, "server")
        return (
            f"distribute: Ray with {count(placing.workers, 'worker')} and {servers}, batch {batch:,}, "
            f"{times(advice.times_faster)} times as fast as one worker"
        )
    rest = "" if placing.workers == 1 else f", {times(advice.times_faster)} times as fast as with one"
    return (
        f"do not distribute: one process is faster, with {count(placing.workers, 'worker')} and batch {batch:,}{rest}"
    )


def _explain(config: Config, advice: Advice, found: Evidence) -> tuple[str, str, str]:
    """Return why, in three sentences: the noise, the steps, the whole."""
    critical, batch = found.critical.batch_size, advice.option.batch_size
    examples = "saves steps and hardly wastes examples" if batch <= critical else "saves some steps and wastes examples"
    trials = sum(tuned.num_trials for tuned in found.tuned)
    seen = f" and {count(trials, 'trial')} at {len(found.tuned)} batch sizes" if trials else ""
    noise = (
        f"The gradient's noise in {count(found.pilot.steps_trained, 'step')} of training{seen} put the critical "
        f"batch size at about {number(critical)} examples, "
        f"so a batch of {batch:,} {examples} ({describe_certainty(advice.sure)}: this choice is within "
        f"1.5 times of the best with a probability of {advice.sure:.0%})."
    )
    fastest = _best_of(config, found, "ray")
    if fastest is None:
        steps = f"A step takes {duration(advice.option.step_s)}, and Ray was not tried."
    else:
        here = _best_of(config, found, "local")
        assert here is not None  # one process is always measured
        steps = (
            f"At their best, one process takes {duration(here.step_s)} for a step of {here.batch_size:,} and Ray "
            f"{duration(fastest.step_s)} for one of {fastest.batch_size:,}."
        )
    whole = (
        f"To {_name_goal(config, found)}, expect {duration(advice.seconds)}, and "
        f"{duration(advice.one_worker_s)} with one worker in one process at its own best batch, "
        f"{advice.one_worker.batch_size:,}."
    )
    return noise, steps, whole


def _name_goal(config: Config, found: Evidence) -> str:
    pilot = found.pilot
    if pilot.goal is None:
        return f"the end of your recipe ({count(config.recipe.epochs, 'epoch')})"
    is_error = plan_for(config.recipe).worker.model.is_classification
    goal = f"a validation error of {percent(pilot.goal)}" if is_error else f"a loss of {number(pilot.goal)}"
    return f"{goal}, which your recipe reached after {count(pilot.goal_steps, 'step')}"


def _options(found: Evidence) -> list[Option]:
    return [
        Option(Placing(backend, m.setting.workers, m.setting.servers), m.setting.batch_size, m.parts.step_s)
        for backend, m in found.measured
    ]


def _best_of(config: Config, found: Evidence, backend: str) -> Option | None:
    curve = learning_curve(found.critical, config.recipe.global_batch_size, 1)
    options = [option for option in _options(found) if option.placing.backend == backend]
    return min(options, key=lambda option: seconds_of(option, curve), default=None)


def _rows(config: Config, advice: Advice, found: Evidence) -> tuple[Row, ...]:
    """Return the best measured batch of every placing; the advised one may lie between two measured."""
    curve = learning_curve(found.critical, config.recipe.global_batch_size, found.pilot.goal_steps)
    best: dict[Placing, Option] = {}
    for option in [advice.option, *_options(found)]:
        known = best.get(option.placing)
        if known is None or seconds_of(option, curve) < seconds_of(known, curve):
            best[option.placing] = option
    best[advice.option.placing] = advice.option
    ordered = sorted(best.values(), key=lambda option: option.placing.effort)
    return tuple(Row(_cells(o, seconds_of(o, curve), advice), o.placing == advice.option.placing) for o in ordered)


def _cells(option: Option, seconds: float, advice: Advice) -> tuple[str, ...]:
    placing = option.placing
    return (
        "one process" if placing.backend == "local" else "Ray",
        f"{placing.workers}",
        f"{placing.servers}",
        f"{option.batch_size:,}",
        duration(option.step_s),
        duration(seconds),
        f"{times(advice.one_worker_s / seconds)} x",
    )


def _apply(config: Config, advice: Advice, found: Evidence) -> Config:
    """Return the configuration with the advice in it, and epochs that take it as far as the old ones did."""
    option, recipe = advice.option, config.recipe
    num_examples = len(plan_for(recipe).worker.train)
    steps_per_epoch = -(-num_examples // option.batch_size)
    longer = advice.num_steps / found.pilot.goal_steps
    num_steps = longer * plan_for(recipe).num_steps
    optimizer = recipe.optimizer.model_copy(update={"learning_rate": advice.learning_rate})
    return config.model_copy(
        update={
            "recipe": recipe.model_copy(
                update={
                    "optimizer": optimizer,
                    "global_batch_size": option.batch_size,
                    "microbatch_size": choose_microbatch(option.batch_size, option.placing.workers),
                    "epochs": max(1, math.ceil(num_steps / steps_per_epoch)),
                }
            ),
            "placement": config.placement.model_copy(update=asdict(option.placing)),
        }
    )


def _describe_changes(config: Config) -> str:
    """Return the advised values as YAML to paste."""
    recipe, placement = config.recipe, config.placement
    values = {
        "recipe": {
            "global_batch_size": recipe.global_batch_size,
            "microbatch_size": recipe.microbatch_size,
            "epochs": recipe.epochs,
            "optimizer": {"learning_rate": recipe.optimizer.learning_rate},
        },
        "placement": {"backend": placement.backend, "workers": placement.workers, "servers": placement.servers},
    }
    return yaml.safe_dump(values, sort_keys=False).strip()
