"""Losses of one's own, whose outputs are not one for each class: what cannot be measured is left out."""

from __future__ import annotations

import math

import pytest

from distbp import Placement, Recipe, load_run, train
from distbp.__main__ import main
from distbp.errors import ConfigError

pytestmark = pytest.mark.slow


@pytest.fixture
def make_logits_recipe(tmp_path):
    """Returns a recipe of one logit for two classes."""
    rows = [f"{n % 7},{n % 5},{'yes' if n % 7 > 3 else 'no'}" for n in range(80)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,kind", *rows]) + "\n")

    def call(**fields: object) -> Recipe:
        model = {"torch": "own_outputs:build", "loss": "own_outputs:logistic"}
        data = {"source": str(tmp_path / "t.csv"), "target": "kind"}
        return Recipe.model_validate({"data": data, "model": model, "epochs": 2, **fields})

    return call


def test_one_logit_for_two_classes_is_trained_evaluated_and_reported(tmp_path, make_logits_recipe):
    result = train(make_logits_recipe(), Placement(storage=str(tmp_path / "runs")))
    report = load_run(result.run).evaluate()
    assert report.measures is None
    assert math.isfinite(report.loss)
    assert main(["report", result.run, "--out", str(tmp_path / "page.html")]) == 0
    assert "needs one output for each class" in (tmp_path / "page.html").read_text()


def test_measures_that_need_an_output_for_each_class_are_not_watched(tmp_path, make_logits_recipe):
    recipe = make_logits_recipe(early_stopping={"monitor": "balanced_accuracy"})
    with pytest.raises(ConfigError, match=r"monitor=balanced_accuracy is no measure of a loss of your own"):
        train(recipe, Placement(storage=str(tmp_path / "runs")))
