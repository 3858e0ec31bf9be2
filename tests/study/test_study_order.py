"""Order, initialisation and one flipped bit: what is varied, what is compared, and the page about it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from distbp.__main__ import main
from distbp.config import Recipe
from distbp.protocol.messages import TrainState
from distbp.study.order.findings import compare, relative_distances
from distbp.study.order.trial import OrderTrial, flip_bit, run_order_trial

pytestmark = pytest.mark.slow

RECIPE = Recipe.model_validate({"model": {"hidden": [8]}, "epochs": 1, "global_batch_size": 100, "microbatch_size": 25})
FULL = RECIPE.model_copy(update={"global_batch_size": 1438, "microbatch_size": 256})
STEPS = (0, 2, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("order")
    argv = ["study", "order", "--runs", "2", "--set", "epochs=2", "--set", "model.hidden=[8]", "--out", str(folder)]
    assert main(argv) == 0
    return folder


def test_full_batch_ends_with_the_same_bytes_whatever_the_order():
    first, second = (run_order_trial(OrderTrial(FULL, STEPS, 0, seed)) for seed in (1, 2))
    assert first.digest == second.digest
    assert first.parameters == second.parameters


def test_mini_batches_end_elsewhere_in_another_order():
    first, second = (run_order_trial(OrderTrial(RECIPE, STEPS, 0, seed)) for seed in (1, 2))
    assert first.parameters[0] == second.parameters[0]
    assert first.digest != second.digest


def test_a_run_repeats_to_the_last_bit():
    trial = OrderTrial(RECIPE, STEPS, 3, 4, flipped=5)
    assert run_order_trial(trial) == run_order_trial(trial)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_bit_of_one_weight_is_flipped(dtype):
    state = TrainState(0, np.linspace(0.1, 1, 7, dtype=dtype), (np.zeros(7, dtype),))
    flipped = flip_bit(state, 3)
    assert np.flatnonzero(flipped.parameters != state.parameters).tolist() == [3]
    assert abs(flipped.parameters[3] - state.parameters[3]) == np.spacing(state.parameters[3])
    assert (flip_bit(flipped, 3).parameters == state.parameters).all()


def test_distances_are_relative_to_the_way_of_the_reference():
    reference = [np.array([0.0, 0.0]), np.array([3.0, 4.0])]
    other = [np.array([0.0, 1.0]), np.array([3.0, 14.0])]
    assert relative_distances(reference, other) == [0.2, 2.0]


def test_comparison_by_hand():
    reference, *others = (run_order_trial(OrderTrial(RECIPE, STEPS, 0, seed)) for seed in (0, 1, 2))
    found = compare("order", reference, others)
    a, b, c = (result.classes() for result in (reference, *others))
    assert found.disagreement == pytest.approx(np.mean([(a != b).mean(), (a != c).mean(), (b != c).mean()]))
    assert found.mean_distances[0] == 0
    assert found.mean_distances[-1] == pytest.approx(np.sqrt(found.distances[0][-1] * found.distances[1][-1]))
    assert found.spread == pytest.approx(np.std(found.errors, ddof=1))
    assert found.num_digests == 3


def test_full_batch_distances_are_exactly_zero(folder):
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["is_order_free"]
    assert len(summary["full_digests"]) == 4
    assert [kind["kind"] for kind in summary["mini"]] == ["order", "initialisation", "one flipped bit"]
    with (folder / "numbers" / "distances.csv").open() as file:
        full_orders = [
            float(r["distance"]) for r in csv.DictReader(file) if (r["batch"], r["kind"]) == ("full", "order")
        ]
    assert full_orders
    assert set(full_orders) == {0.0}


def test_page_shows_the_digest(folder):
    page = (folder / "report.html").read_text()
    digest = json.loads((folder / "summary.json").read_text())["full_digests"][0]
    assert page.count(digest[:32]) == 4
    assert "and not by a single bit" in page


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--runs", "1"], "a spread needs 2 runs of each kind at least"),
        (["--set", "data.validation=0"], "it needs classes and data.validation"),
        (["--set", "learning_rate=1"], "unknown key 'learning_rate'"),
    ],
)
def test_mistakes_are_told_in_one_sentence(argv, says, tmp_path, capfd):
    assert main(["study", "order", "--out", str(tmp_path / "out"), *argv]) == 2
    assert says in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
