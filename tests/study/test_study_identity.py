"""A study goes on only with the recipe that it trains: what the data choose is part of it."""

from __future__ import annotations

import numpy as np
import pytest

from distbp.config import Recipe
from distbp.lab.store import is_same_study
from distbp.study.batch_size import study as batch_size
from distbp.study.links import study as links
from distbp.study.links.cost import Links
from distbp.study.order import study as order
from distbp.study.workers import study as workers

GIVEN = {"epochs": 20, "optimizer": {"weight_decay": 0.0}}
STUDIES = {
    "batch-size": lambda recipe: batch_size.identify(recipe, batch_size.BatchSizeSettings(1.0, 4)),
    "links": lambda recipe: links.identify(recipe, links.LinksSettings(Links(4, 50.0), (4,), (2,), 2)),
    "order": lambda recipe: order.identify(recipe, order.OrderSettings(2)),
    "workers": lambda recipe: workers.identify(recipe, workers.WorkersSettings((1, 2))),
}
pytestmark = pytest.mark.parametrize("identify", STUDIES.values(), ids=STUDIES)


def recipe_of(data: dict, settings: dict) -> Recipe:
    return Recipe.model_validate({"data": data, **settings})


@pytest.fixture
def table(tmp_path) -> dict:
    rows = [f"{a:.3f},{'xyz'[i % 3]},{int(a > 0)}" for i, a in enumerate(np.random.default_rng(0).normal(size=200))]
    (tmp_path / "table.csv").write_text("\n".join(["a,c,y", *rows]) + "\n")
    return {"source": str(tmp_path / "table.csv"), "target": "y"}


def test_on_a_table_a_default_that_is_set_is_another_study(identify, table):
    left, given = identify(recipe_of(table, {})), identify(recipe_of(table, GIVEN))
    assert not is_same_study(left, given)
    assert is_same_study(left, identify(recipe_of(table, {})))
    chosen = {"epochs": 100, "optimizer": {"weight_decay": 0.003}}
    assert is_same_study(left, identify(recipe_of(table, chosen)))


@pytest.mark.parametrize("settings", [{}, {"global_batch_size": 4096}, {"model": {"loss": "cross_entropy"}}], ids=str)
def test_on_arrays_a_study_of_an_earlier_version_goes_on(identify, settings):
    recipe = recipe_of({}, settings)
    ours = identify(recipe)
    assert is_same_study({**ours, "recipe": recipe.model_dump(mode="json")}, ours)
    assert is_same_study(ours, identify(recipe_of({}, {**settings, **GIVEN})))
