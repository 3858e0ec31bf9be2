"""The page about a network is true to what it says of the examples."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from typer.testing import CliRunner

from distbp import Placement, Recipe, load_run, train
from distbp.cli.app import app
from distbp.prediction.importance import measure_importance
from distbp.report import describe_model, read_model
from distbp.report.model_plots import calibrate, find_interval

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table: `good` and `kind` say what `y` and `amount` are, `idle` nothing."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    with (folder / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["good", "idle", "kind", "y", "amount"])
        for a, b, noise in rng.normal(size=(400, 3)):
            kind = "xyz"[rng.integers(3)]
            value = 3 * a + 2 * (kind == "x") + 0.3 * noise
            writer.writerow(["" if b > 1.5 else f"{a:.4f}", f"{b:.4f}", kind, "<b>no" if value > 1 else "yes", value])
    return folder


def run_of(folder, target: str) -> str:
    other = "amount" if target == "y" else "y"
    values = {"data": {"source": str(folder / "t.csv"), "target": target, "columns": {other: "ignore"}}}
    recipe = Recipe.model_validate({**values, "model": {"hidden": [16]}})
    return train(recipe, Placement(storage=str(folder / "runs"), workers=1), name=target).run


@pytest.fixture(scope="module")
def runs(folder) -> dict[str, str]:
    return {target: run_of(folder, target) for target in ("y", "amount")}


@pytest.mark.parametrize("target", ["y", "amount"])
def test_columns_that_say_something_are_worth_more_than_idle_ones(runs, target):
    run = load_run(runs[target])
    examples = run.own_data().validation
    found = measure_importance(run.network, examples, seed=0)
    assert [one.name for one in found][:2] == ["good", "kind"]
    assert found[0].drop > 0.15 > abs(found[2].drop)
    assert measure_importance(run.network, examples, seed=0) == found
    assert measure_importance(run.network, examples, seed=1) != found


def test_importance_of_an_untrained_constant_is_nothing(runs):
    run = load_run(runs["y"])
    run.network.flat[:] = 0
    assert {one.drop for one in measure_importance(run.network, run.own_data().validation, 0)} == {0.0}


def test_calibration_is_scikit_learns():
    rng = np.random.default_rng(1)
    likely = rng.random(500)
    is_so = rng.random(500) < likely
    means, shares, totals = calibrate(likely, is_so, np.ones(500))
    theirs = calibration_curve(is_so, likely, n_bins=10)
    assert np.allclose(shares, theirs[0])
    assert np.allclose(means, theirs[1])
    low, high = find_interval(shares, totals)
    assert (low <= shares).all()
    assert (shares <= high).all()


def test_interval_is_wilsons():
    low, high = find_interval(np.array([0.5, 0.0]), np.array([10.0, 10.0]))
    assert low == pytest.approx([0.2366, 0.0], abs=1e-4)
    assert high == pytest.approx([0.7634, 0.2775], abs=1e-4)


def test_report_of_a_run_tells_what_goes_in_and_out(runs, folder):
    done = CliRunner().invoke(app, ["report", runs["y"], "--out", str(folder / "page.html")])
    assert done.exit_code == 0, done.output
    page = (folder / "page.html").read_text()
    assert "3 columns become" in page
    assert "an empty cell counts as" in page
    assert "an input for each of x, y, z" in page
    assert "ignored" in page
    assert "<b>no" not in page
    assert "&lt;b&gt;no" in page
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert len(re.findall(r"<svg ", page)) == 7  # four of the run, confusion, calibration, importance


def test_page_of_an_evaluation_has_its_figures(runs, folder):
    out = folder / "amount.html"
    done = CliRunner().invoke(app, ["evaluate", runs["amount"], "--page", str(out)])
    assert done.exit_code == 0, done.output
    report = describe_model(load_run(runs["amount"])).report
    assert f"{report.measures.r2:.3f}" in out.read_text()
    assert "right answers lie here" in out.read_text()


def test_run_whose_data_are_gone_has_a_page_that_says_so(folder):
    source = folder / "gone.csv"
    source.write_bytes((folder / "t.csv").read_bytes())
    recipe = Recipe.model_validate({"data": {"source": str(source), "target": "y"}, "epochs": 1})
    run = train(recipe, Placement(storage=str(folder / "runs"), workers=1), name="gone").run
    source.unlink()
    assert "cannot be judged here" in read_model(run)
    done = CliRunner().invoke(app, ["report", run, "--out", str(folder / "gone.html")])
    assert done.exit_code == 0
    assert "cannot be judged here" in (folder / "gone.html").read_text()


def test_network_of_several_labels_and_of_pixels_has_a_page(folder):
    rng = np.random.default_rng(0)
    rows = ["a,one,two"] + [f"{a:.3f},{a > 0},{a + b > 0.5}".lower() for a, b in rng.normal(size=(200, 2))]
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    recipe = Recipe.model_validate({"data": {"source": str(folder / "labels.csv"), "target": ["one", "two"]}})
    labels = train(recipe, Placement(storage=str(folder / "runs"), workers=1), name="labels").run
    digits = train(Recipe(epochs=1), Placement(storage=str(folder / "runs"), workers=1), name="digits").run
    for run, expected in ((labels, "all right"), (digits, "of shape 8 × 8")):
        out = folder / "other.html"
        done = CliRunner().invoke(app, ["report", run, "--out", str(out)])
        assert done.exit_code == 0, done.output
        assert expected in out.read_text()
