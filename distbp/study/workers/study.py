"""The workers study: step times of groups of workers, one group after the other, and what they say of larger ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distbp.config import Placement, Recipe
from distbp.config.microbatches import TIMING_EXAMPLES, choose_microbatch_size
from distbp.errors import ConfigError, DataError
from distbp.lab.cost_model import Measured, Setting
from distbp.lab.hyperbola import Hyperbola, HyperbolaFit
from distbp.lab.lab import Lab, Measurement
from distbp.lab.step_times import Group, GroupTimes, time_group
from distbp.lab.trial import load, plan_for, with_batch
from distbp.machine.cores import count_cores
from distbp.study.batch_size.study import describe_arithmetic, search_sizes
from distbp.study.identity import identify_training
from distbp.study.workers.findings import StepsToGoal, WorkersFindings, fit_and_check, predict
from distbp.text.json_text import decode_object

SECONDS = 0.4
LARGEST_MODEL = 2_500_000
LEARNING_SIZES = (8, 32, 128, 512)
LEARNING_TRIALS = 12
LEARNING_MINUTES = 0.5


@dataclass(frozen=True)
class WorkersSettings:
    """What the user may choose. batch_size_study: a folder of one, whose fit is used; None: a short search is made."""

    workers: tuple[int, ...]
    batch_size_study: Path | None = None


def identify(recipe: Recipe, settings: WorkersSettings) -> dict[str, Any]:
    """Return what must be the same when a stopped study goes on."""
    origin = settings.batch_size_study
    return {
        "study": "workers",
        **identify_training(recipe, plan_for(recipe)),
        "workers": settings.workers,
        "batch_size_study": None if origin is None else str(origin),
    }


def study_workers(recipe: Recipe, placement: Placement, settings: WorkersSettings, lab: Lab) -> WorkersFindings:
    """Carry out the study and return what was found."""
    plan = plan_for(recipe)
    num_examples, num_parameters = len(plan.worker.train), plan.layout.num_parameters
    learning = _read_learning(settings.batch_size_study) if settings.batch_size_study else _learn(recipe, lab)
    models = scale_model(recipe)
    microbatch_size = models[0].microbatch_size
    strong, weak = _choose_batch_sizes(num_examples, max(settings.workers))
    cores = _count_shared_cores(placement)
    local, on_ray = _time_groups(models, strong, weak, cores, placement, settings, lab)
    fitted, model, checked = fit_and_check(on_ray, cores or max(settings.workers))
    targets, large, straggling = predict(model, learning, num_parameters, microbatch_size, num_examples)
    return WorkersFindings(
        source=recipe.data.source,
        network=plan.describe().split(" on ")[0],
        num_parameters=num_parameters,
        num_examples=num_examples,
        microbatch_size=microbatch_size,
        strong_batch_size=strong[-1],
        weak_batch_size=weak,
        cores=count_cores(),
        processor=describe_arithmetic(),
        local=local,
        ray=tuple(m for m in on_ray if m.setting.num_parameters == num_parameters),
        fitted=fitted,
        model=model,
        checked=checked,
        learning=learning,
        targets=targets,
        large=large,
        straggling=straggling,
    )


def _time_groups(
    models: Sequence[Recipe],
    strong: Sequence[int],
    weak: int,
    cores: int | None,
    placement: Placement,
    settings: WorkersSettings,
    lab: Lab,
) -> tuple[tuple[Measured, ...], tuple[Measured, ...]]:
    """Return the step times in one process, of the first model, and on Ray, of all of them."""

    def measurement(kind: Literal["local", "ray"], number: int, workers: int, servers: int) -> Measurement[GroupTimes]:
        sizes = tuple(sorted({*strong, weak * workers}))
        group = Group(models[number], kind, workers, servers, sizes, SECONDS, placement.address, cores)
        return Measurement(f"steps/{kind}/{number}/{workers}/{servers}", time_group, group, GroupTimes)

    local = lab.measure("timing one process", [measurement("local", 0, workers, 1) for workers in settings.workers])
    measurements = [
        measurement("ray", number, workers, servers)
        for number in range(len(models))
        for workers in settings.workers
        for servers in dict.fromkeys((1, workers))
    ]
    with _ray(measurements, lab, placement, max(settings.workers)):
        on_ray = lab.measure("timing groups on Ray", measurements)
    return _measured(local), _measured(on_ray)


def _measured(times: Sequence[GroupTimes]) -> tuple[Measured, ...]:
    """Return every setting's first measurement: a model may be too small for as many servers as were asked for."""
    first: dict[Setting, Measured] = {}
    for m in (m for group in times for m in group.measured):
        first.setdefault(m.setting, m)
    return tuple(first.values())


def _count_shared_cores(placement: Placement) -> int | None:
    """Return how many cores the workers share on this machine; None on a cluster, where each has its own."""
    is_private = placement.address is None and "RAY_ADDRESS" not in os.environ
    return count_cores() if is_private else None


def scale_model(recipe: Recipe) -> list[Recipe]:
    """Return the recipe with its own network and, where it has hidden layers, two that are wider or narrower.

    Their layers are 4 and 16 times as wide, or as narrow where that would be too large.
    """
    batch_size = min(1024, len(load(recipe.data, recipe.seed).train))
    microbatch_size = choose_microbatch_size(batch_size, smallest=max(TIMING_EXAMPLES, recipe.microbatch_size))
    own = with_batch(recipe, batch_size, 1e-9, 0.9).model_copy(update={"microbatch_size": microbatch_size})
    if recipe.model.function is not None or recipe.model.torch is not None or not recipe.model.hidden:
        return [own]
    wide = [_widen(own, 4.0**power) for power in (1, 2)]
    if _num_parameters(wide[-1]) > LARGEST_MODEL:
        wide = [_widen(own, 4.0**-power) for power in (1, 2)]
    return [own, *wide]


def _widen(recipe: Recipe, factor: float) -> Recipe:
    hidden = tuple(max(2, round(factor * size)) for size in recipe.model.hidden)
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"hidden": hidden})})


def _num_parameters(recipe: Recipe) -> int:
    return plan_for(recipe.model_copy(update={"global_batch_size": 1, "microbatch_size": 1})).layout.num_parameters


def _choose_batch_sizes(num_examples: int, most_workers: int) -> tuple[tuple[int, ...], int]:
    """Return three batch sizes to share, each four times the last, and what each worker has when the batch grows."""
    strong = tuple(size for size in (64, 256, 1024) if size <= num_examples) or (num_examples,)
    return strong, max(1, min(256, num_examples // most_workers))


@contextmanager
def _ray(measurements: Sequence[Measurement[Any]], lab: Lab, placement: Placement, num_cpus: int) -> Iterator[None]:
    """Hold one cluster for all groups, unless everything is measured already."""
    if all(lab.knows(measurement) for measurement in measurements):
        yield
        return
    from distbp.backends.ray.cluster import RayCluster

    cluster = RayCluster(placement.address, num_cpus)
    try:
        yield
    finally:
        cluster.close()


def _learn(recipe: Recipe, lab: Lab) -> StepsToGoal | None:
    """Return steps against batch size from a short search."""
    found = search_sizes(recipe, LEARNING_SIZES, LEARNING_TRIALS, LEARNING_MINUTES, lab)
    fit = found.fit
    return None if fit is None else StepsToGoal(found.goal, fit, "a short search in this study")


def _read_learning(folder: Path) -> StepsToGoal:
    """Return the fit of a batch-size study. Raises DataError where the folder holds none."""
    path = folder / "summary.json"
    try:
        goal = decode_object(path.read_bytes())["goals"][-1]
        curve = Hyperbola(goal["fit"]["curve"]["min_steps"], goal["fit"]["critical_batch_size"])
        return StepsToGoal(
            goal["goal"], HyperbolaFit(curve, goal["fit"]["residual"], goal["fit"]["num_points"]), f"'{folder}'"
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        raise DataError(
            f"'{path}' holds no fitted curve of a batch-size study; name the folder of a finished one"
        ) from None


def check_settings(recipe: Recipe, settings: WorkersSettings) -> None:
    """Raise for settings that cannot be meant, before anything is measured."""
    if settings.batch_size_study is not None:
        _read_learning(settings.batch_size_study)
    elif plan_for(recipe).worker.validation is None:
        raise ConfigError("a study needs validation data; set data.validation, for example 0.2")
    if len(settings.workers) < 2:
        raise ConfigError(f"--workers {settings.workers[0]}: a comparison needs two counts at least, such as 1,2,4")
