"""What early stopping watches: any measure of the task, the same for any number of workers."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from distbp import Placement, Recipe, load_run, train
from distbp.config import load_config, parse_config
from distbp.errors import ConfigError, DataError
from distbp.run import RunDirectory

pytestmark = pytest.mark.slow


@pytest.fixture
def source(tmp_path) -> str:
    """A table of 240 rows: two numbers, noisy classes of two kinds, a quantity."""
    rng = np.random.default_rng(0)
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "kind", "amount"])
        for a, b, noise in rng.normal(size=(240, 3)):
            writer.writerow([f"{a:.4f}", f"{b:.4f}", "yes" if a + noise > 0.5 else "no", f"{a - b + noise:.4f}"])
    return str(tmp_path / "t.csv")


def run_of(source: str, folder, target: str, workers: int = 1, name: str | None = None, **early_stopping):
    columns = {"amount": "ignore"} if target == "kind" else {"kind": "ignore"}
    recipe = Recipe.model_validate(
        {
            "data": {"source": source, "target": target, "columns": columns},
            "model": {"hidden": [16]},
            "early_stopping": early_stopping,
            "epochs": 30,
        }
    )
    return train(recipe, Placement(storage=str(folder), workers=workers), name=name)


@pytest.mark.parametrize(
    ("target", "monitor"),
    [("kind", "accuracy"), ("kind", "roc_auc"), ("kind", "log_loss"), ("kind", "balanced_accuracy"), ("amount", "r2")],
)
def test_the_best_of_the_watched_measure_is_kept(source, tmp_path, target, monitor):
    result = run_of(source, tmp_path, target, name=monitor, patience=3, monitor=monitor)
    events = [e for e in RunDirectory.open(result.run).read_events() if e["kind"] == "evaluated"]
    values = [e["value"] for e in events]
    best = min(values) if monitor == "log_loss" else max(values)
    assert {e["monitor"] for e in events} == {monitor}
    assert result.monitored == {monitor: best}
    assert result.final_step == events[values.index(best)]["step"]
    report = load_run(result.run).evaluate()
    measured = report.accuracy if monitor == "accuracy" else getattr(report.measures, monitor)
    assert measured == pytest.approx(best, abs=1e-9)


def test_the_watched_roc_auc_is_scikit_learns(source, tmp_path):
    result = run_of(source, tmp_path, "kind", patience=3, monitor="roc_auc")
    run = load_run(result.run)
    validation = run.own_data().validation
    likely = run.predict_examples(validation).outputs[:, 1]
    assert result.monitored["roc_auc"] == pytest.approx(roc_auc_score(validation.y[validation.rows], likely), abs=1e-6)


def test_what_is_watched_does_not_depend_on_workers(source, tmp_path):
    results = [run_of(source, tmp_path / str(n), "kind", n, patience=4, monitor="roc_auc") for n in (1, 3)]
    assert results[0].digest == results[1].digest
    assert results[0].monitored == results[1].monitored


def test_a_run_that_is_resumed_watches_on(source, tmp_path):
    def stop(progress):
        if progress.position.step == 7:
            raise KeyboardInterrupt

    recipe_of = {"patience": 4, "monitor": "roc_auc"}
    whole = run_of(source, tmp_path / "whole", "kind", name="r", **recipe_of)
    config = RunDirectory.open(whole.run).read_config()
    place = Placement(storage=str(tmp_path / "parts"), workers=1, checkpoint_every_steps=1)
    with pytest.raises(KeyboardInterrupt):
        train(config.recipe, place, name="r", observe=stop)
    resumed = train(config.recipe, place, name="r")
    assert (resumed.digest, resumed.monitored) == (whole.digest, whole.monitored)


@pytest.mark.parametrize(
    ("target", "monitor", "expected"),
    [
        ("kind", "r2", "is no measure of classes; use loss, accuracy"),
        ("amount", "roc_auc", "is no measure of numbers to predict; use loss, rmse, mae, r2"),
        ("kind", "speed", "'loss', 'accuracy'"),
    ],
)
def test_a_measure_of_another_task_is_refused(source, tmp_path, target, monitor, expected):
    with pytest.raises((ConfigError, ValueError), match=expected):
        run_of(source, tmp_path, target, patience=3, monitor=monitor)


def test_early_stopping_is_a_switch():
    assert parse_config({"recipe": {"early_stopping": True}}).recipe.early_stopping.patience == 10
    assert parse_config({"recipe": {"early_stopping": False}}).recipe.early_stopping.patience is None
    for order in (
        ["early_stopping=true", "early_stopping.monitor=accuracy"],
        ["early_stopping.monitor=accuracy", "early_stopping=true"],
    ):
        found = load_config(None, order).recipe.early_stopping
        assert (found.patience, found.monitor) == (10, "accuracy")


def test_watching_the_loss_is_no_other_recipe():
    recipe = Recipe.model_validate({"early_stopping": {"patience": 3}})
    named = Recipe.model_validate({"early_stopping": {"patience": 3, "monitor": "loss"}})
    other = Recipe.model_validate({"early_stopping": {"patience": 3, "monitor": "accuracy"}})
    assert recipe.digest == named.digest != other.digest


def test_the_estimator_watches_what_it_is_told():
    from distbp.sklearn import DistbpClassifier

    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 3))
    y = (x[:, 0] + rng.normal(size=200) > 0).astype(int)
    fits = [DistbpClassifier(early_stopping=True, max_iter=30, monitor=m).fit(x, y) for m in ("loss", "roc_auc")]
    assert fits[0].digest_ != fits[1].digest_
    assert fits[1].recipe_.early_stopping.monitor == "roc_auc"
    with pytest.raises(ValueError, match="monitor"):
        DistbpClassifier(early_stopping=True, monitor="r2").fit(x, y)


def test_a_class_whose_examples_all_weigh_nothing_is_none_of_those_that_a_curve_needs(tmp_path):
    rows = [f"{n % 7},{n % 5},{'yes' if n % 2 else 'no'},{n % 2}" for n in range(60)]  # no "no" counts
    held_out = tmp_path / "held-out.csv"
    for path, weighed in ((tmp_path / "t.csv", [f"{row[:-1]}1" for row in rows]), (held_out, rows)):
        path.write_text("\n".join(["a,b,kind,w", *weighed]) + "\n")
    data = {"source": str(tmp_path / "t.csv"), "target": "kind", "weight": "w", "validation": str(held_out)}
    recipe = Recipe.model_validate({"data": data, "early_stopping": {"patience": 2, "monitor": "roc_auc"}})
    with pytest.raises(ConfigError, match="needs a validation example of each class"):
        train(recipe, Placement(storage=str(tmp_path / "runs")))


def test_validation_examples_that_all_weigh_nothing_are_one_sentence_before_training(tmp_path):
    for name, weight in (("t", 1), ("held-out", 0)):
        rows = [f"{n % 7},{'yes' if n % 2 else 'no'},{weight if n else 1 - weight}" for n in range(60)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,kind,w", *rows[weight == 0 :]]) + "\n")
    data = {"source": f"{tmp_path}/t.csv", "target": "kind", "weight": "w", "validation": f"{tmp_path}/held-out.csv"}
    with pytest.raises(DataError, match=r"is 0 in every row"):
        train(Recipe.model_validate({"data": data}), Placement(storage=str(tmp_path / "runs")))
