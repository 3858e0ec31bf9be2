"""Puts the stories of runs on one page that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distbp.config import describe_config
from distbp.errors import StorageError
from distbp.installation import need
from distbp.nn.numerics import name_blas
from distbp.pages.drawing import Plot
from distbp.pages.page import write_page
from distbp.prediction.trained_run import TrainedRun
from distbp.report.measure_words import list_measures
from distbp.report.model import ModelStory
from distbp.report.model_plots import MOST_TARGETS, plot_model
from distbp.report.plots import plot_all
from distbp.report.story import RunStory, list_differences
from distbp.text.masking import mask_secrets


def write_report(stories: Sequence[RunStory], path: Path, model: ModelStory | str | None = None) -> None:
    """Write the page about these runs to `path`. Raises StorageError if it cannot be written.

    model: of a single run, its network, or in a sentence why that is not shown.
    """
    need("a report", "matplotlib", "jinja2")
    told = model if isinstance(model, ModelStory) else None
    values = {
        "title": stories[0].name if len(stories) == 1 else f"{len(stories)} runs side by side",
        "stories": stories,
        "verdict": judge(stories),
        "differences": list_differences(stories) if len(stories) > 1 else [],
        "configurations": [mask_secrets(describe_config(story.config)) for story in stories],
        "kernels": [_describe_numerics(story) for story in stories],
        "no_model": model if isinstance(model, str) else None,
        **_model_values(told),
    }
    _write(path, "report/runs.html.j2", values, plot_all(stories) + ([] if told is None else plot_model(told)))


def write_model_page(model: ModelStory, trained: TrainedRun, path: Path) -> None:
    """Write a page about a network alone. Raises StorageError if it cannot be written."""
    need("a page", "matplotlib", "jinja2")
    values = {
        "title": trained.run.name,
        "url": trained.run.url,
        "step": trained.step,
        "digest": trained.digest,
        **_model_values(model),
    }
    _write(path, "report/model.html.j2", values, plot_model(model))


def _model_values(model: ModelStory | None) -> dict[str, object]:
    if model is None:
        return {"model": None, "measures": [], "truths": []}
    is_numbers = model.schema.task == "regression" and model.schema.labels is None
    truths = [f"truth_{place}" for place in range(min(MOST_TARGETS, model.schema.num_outputs))] if is_numbers else []
    return {"model": model, "measures": list_measures(model), "truths": truths}


def _write(path: Path, template: str, values: dict[str, object], plots: list[Plot]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_page(path, template, values, plots)
    except OSError as error:
        raise StorageError(f"cannot write '{path}': {error.strerror}; name another file") from None


def judge(stories: Sequence[RunStory]) -> str | None:
    """Return in a sentence or two which of the runs end with the same bytes; None for one run."""
    if len(stories) == 1:
        return None
    if any(story.digest is None for story in stories):
        return "Not all of these runs have finished, so their final parameters cannot be compared yet."
    groups: dict[str | None, list[str]] = {}
    for story in stories:
        groups.setdefault(story.digest, []).append(story.name)
    if len(groups) == 1:
        return "All of these runs end with the same bytes."
    equal = [f"{_join(names)} end with the same bytes" for names in groups.values() if len(names) > 1]
    others = [name for names in groups.values() if len(names) == 1 for name in names]
    other = [f"{_join(others)} {'ends' if len(others) == 1 else 'end'} with {'others' if equal else 'different ones'}"]
    return "; ".join([*equal, *(other if others else [])]) + _explain(stories, len(groups))


def _explain(stories: Sequence[RunStory], num_digests: int) -> str:
    knows_data = all(story.data is not None for story in stories)
    num_recipes = len({(s.config.recipe.digest, str(s.data) if knows_data else "") for s in stories})
    if num_recipes >= num_digests:
        return f", as {num_recipes} different recipes or data let expect."
    return ", although recipes are equal: distbp verify tells where two runs part."


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _describe_numerics(story: RunStory) -> dict[str, str]:
    numerics = story.numerics
    return {
        "numpy": str(numerics.get("numpy")),
        "blas": name_blas(numerics, ("internal_api", "version", "architecture")),
        "probe": str(numerics.get("probe"))[:12],
    }
