"""The links study: steps, examples, bytes and seconds to a goal, step by step and in rounds, each tuned alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from distbp.config import Outer, Recipe, Rounds
from distbp.config.microbatches import TRIAL_EXAMPLES, choose_microbatch_size
from distbp.errors import ConfigError
from distbp.lab.curves import choose_goals
from distbp.lab.lab import Lab, Measurement, single
from distbp.lab.timing import StepTime, time_step
from distbp.lab.trial import TrialResult
from distbp.study.batch_size.study import describe_arithmetic
from distbp.study.identity import identify_training
from distbp.study.links.cost import Links, Way
from distbp.study.links.findings import Choice, LinksFindings, Tried, find_way
from distbp.study.links.trial import LinksTrial, plan_of, run_links_trial

RATE_FACTORS = (1.0, 0.3, 3.0, 0.1, 10.0, 0.03, 30.0, 0.01)
"""What the recipe's learning rate is multiplied with, the likeliest first."""
OUTERS = (Outer(learning_rate=1.0, momentum=0.0, nesterov=False), Outer(learning_rate=0.7, momentum=0.9, nesterov=True))
NUM_HALVINGS = 3


@dataclass(frozen=True)
class LinksSettings:
    """What the user may choose. goal: None derives it from a pilot run. trials: choices tried for each way."""

    links: Links
    steps: tuple[int, ...]
    replicas: tuple[int, ...]
    trials: int
    goal: float | None = None


def identify(recipe: Recipe, settings: LinksSettings) -> dict[str, Any]:
    """Return what must be the same when a stopped study goes on; links, goal, ways and trials may change."""
    del settings
    return {"study": "links", **identify_training(recipe, plan_of(recipe))}


def check_settings(recipe: Recipe, settings: LinksSettings) -> None:
    """Raise ConfigError for what cannot be tried, before anything is trained."""
    if recipe.rounds.steps is not None:
        raise ConfigError("the links study chooses the rounds itself; leave recipe.rounds out")
    plan = plan_of(recipe)
    if plan.worker.validation is None:
        raise ConfigError("the links study needs validation data; set data.validation, for example 0.2")
    if settings.links.num_hosts < 2:
        raise ConfigError(f"--hosts {settings.links.num_hosts}: links need 2 hosts at least")
    if max(settings.replicas) > recipe.global_batch_size:
        raise ConfigError(
            f"--replicas: {max(settings.replicas)} is larger than global_batch_size={recipe.global_batch_size}, "
            "so some would learn nothing"
        )
    if max(settings.steps) > plan.steps_per_epoch:
        raise ConfigError(
            f"--steps: {max(settings.steps)} is more than the {plan.steps_per_epoch} steps of an epoch; a round ends "
            "with the epoch"
        )
    if settings.goal is not None and plan.worker.model.is_classification and settings.goal >= 1:
        raise ConfigError(f"--goal {settings.goal:g} is no error; use a fraction below 1, such as 0.1")


def study_links(recipe: Recipe, settings: LinksSettings, lab: Lab) -> LinksFindings:
    """Carry out the study and return what was found."""
    plan, links = plan_of(recipe), settings.links
    ways = list(_ways(recipe, settings))
    times = _time_parts(recipe, ways, links, lab)
    tried = _try_all(recipe, ways, times, settings.trials, lab)
    goal = settings.goal or _derive_goal(tried)
    num_bytes = plan.initial_state().parameters.nbytes
    found = [find_way(one, goal, num_bytes, links) for one in tried]
    whole = tried[_index_of_whole(ways)]
    every_step = Tried(Way(recipe.global_batch_size, links.num_hosts), 0.0, whole.choices, whole.results)
    part_s = times[every_step.way.part].step_s
    return LinksFindings(
        source=recipe.data.source,
        network=plan.describe().split(" on ")[0],
        num_parameters=plan.layout.num_parameters,
        num_bytes=num_bytes,
        num_examples=len(plan.worker.train),
        num_validation=0 if plan.worker.validation is None else len(plan.worker.validation),
        batch_size=recipe.global_batch_size,
        epochs=recipe.epochs,
        links=links,
        goal=goal,
        one_host=tuple(one for one in found if one.way.steps is None),
        every_step=find_way(Tried(every_step.way, part_s, whole.choices, whole.results), goal, num_bytes, links),
        rounds=tuple(one for one in found if one.way.steps is not None),
        processor=describe_arithmetic(),
    )


def recipe_for(recipe: Recipe, way: Way, choice: Choice) -> Recipe:
    """Return the recipe of one trial, in microbatches that are efficient in one process."""
    part = -(-way.batch_size // way.replicas)
    rounds = Rounds()
    if way.steps is not None and choice.outer_rate is not None and choice.outer_momentum is not None:
        outer = Outer(
            learning_rate=choice.outer_rate, momentum=choice.outer_momentum, nesterov=choice.outer_momentum > 0
        )
        rounds = Rounds(steps=way.steps, replicas=way.replicas, outer=outer)
    optimizer = recipe.optimizer.model_copy(update={"learning_rate": choice.learning_rate})
    return recipe.model_copy(
        update={
            "optimizer": optimizer,
            "schedule": type(recipe.schedule)(kind="constant"),
            "rounds": rounds,
            "global_batch_size": way.batch_size,
            "microbatch_size": choose_microbatch_size(part, smallest=min(part, TRIAL_EXAMPLES)),
        }
    )


def choices_for(recipe: Recipe, way: Way, count: int) -> Iterator[Choice]:
    """Yield up to `count` choices: rates around the recipe's own, in rounds with each of two outer steps in turn."""
    rates = [recipe.optimizer.learning_rate * factor for factor in RATE_FACTORS]
    if way.steps is None:
        yield from (Choice(rate) for rate in rates[:count])
        return
    pairs = ((rate, outer) for rate in rates for outer in OUTERS)
    yield from (Choice(rate, outer.learning_rate, outer.momentum) for rate, outer in islice(pairs, count))


def _ways(recipe: Recipe, settings: LinksSettings) -> Iterator[Way]:
    """Yield one host with the recipe's batch and smaller ones, and all rounds."""
    sizes = {max(1, recipe.global_batch_size >> halvings) for halvings in range(NUM_HALVINGS + 1)}
    yield from (Way(size, 1) for size in sorted(sizes, reverse=True))
    for replicas in settings.replicas:
        for steps in settings.steps:
            yield Way(recipe.global_batch_size, min(replicas, settings.links.num_hosts), steps, replicas)


def _index_of_whole(ways: Sequence[Way]) -> int:
    """Return which is one host with the recipe's own batch: the numbers of committing every step on any hosts."""
    return next(number for number, way in enumerate(ways) if way.steps is None)


def _time_parts(recipe: Recipe, ways: Sequence[Way], links: Links, lab: Lab) -> dict[int, StepTime]:
    """Return the seconds of a step for every size of a part, measured one after the other."""
    sizes = sorted({way.part for way in ways} | {Way(recipe.global_batch_size, links.num_hosts).part})
    steps = [recipe_for(recipe, Way(size, 1), Choice(1e-9)) for size in sizes]
    measurements = [
        Measurement(f"step/{size}", time_step, step, StepTime) for size, step in zip(sizes, steps, strict=True)
    ]
    return dict(zip(sizes, lab.measure("timing steps", measurements), strict=True))


def _try_all(recipe: Recipe, ways: Sequence[Way], times: dict[int, StepTime], trials: int, lab: Lab) -> list[Tried]:
    choices = [tuple(choices_for(recipe, way, trials)) for way in ways]
    measurements = [
        _measurement(recipe, way, choice) for way, ones in zip(ways, choices, strict=True) for choice in ones
    ]
    results = iter(lab.run("training", list(map(single, measurements)), [1] * len(measurements)))
    return [
        Tried(way, times[way.part].step_s, ones, tuple(islice(results, len(ones))))
        for way, ones in zip(ways, choices, strict=True)
    ]


def _measurement(recipe: Recipe, way: Way, choice: Choice) -> Measurement[TrialResult]:
    tried = recipe_for(recipe, way, choice)
    num_steps = plan_of(tried).num_steps
    outer = "" if choice.outer_rate is None else f"/outer {choice.outer_rate:g} {choice.outer_momentum:g}"
    key = f"trial/{way.batch_size}/{way.steps}/{way.replicas}/{choice.learning_rate:.4g}{outer}"
    return Measurement(key, run_links_trial, LinksTrial(tried, num_steps, num_steps // 4), TrialResult)


def _derive_goal(tried: Sequence[Tried]) -> float:
    """Return the hardest of the goals between the error at the start and the best that one host reaches."""
    results = [result for one in tried if one.way.steps is None for result in one.results]
    return choose_goals(results[0].curve[0].error, min(p.error for r in results for p in r.curve))[-1]
