"""A table trains as it is: with categories, dates and gaps the bytes do not depend on workers; numbers come back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from distbp import Placement, Recipe, Result, load_run, train
from distbp.__main__ import main
from distbp.config import Data
from distbp.data import prepare
from distbp.errors import DataError

pytestmark = pytest.mark.slow

SHARED = Path(__file__).resolve().parents[3] / "shared" / "tables"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Houses: price depends on area, kind and the year of sale."""
    numbers = np.random.default_rng(5)
    n = 240
    area = numbers.uniform(30, 200, n).round(1)
    kind = numbers.choice(["flat", "house", "barn"], n)
    days = np.datetime64("2015-01-01") + numbers.integers(0, 2000, n)
    price = (1000 * area * (1 + (kind == "house")) + numbers.normal(0, 3000, n)).round()
    rows = {
        "area": [None if i % 11 == 0 else v for i, v in enumerate(area.tolist())],
        "kind": [None if i % 13 == 0 else v for i, v in enumerate(kind.tolist())],
        "sold": days.astype("datetime64[us]").tolist(),
        "id": list(range(n)),
        "price": [None if i % 40 == 0 else v for i, v in enumerate(price.tolist())],
    }
    path = tmp_path_factory.mktemp("table") / "houses.parquet"
    parquet.write_table(pa.table(rows), path)
    return str(path)


def run(table: str, folder: Path, workers: int = 1, **data: object) -> Result:
    recipe = Recipe.model_validate({"data": {"source": table, "target": "price", **data}, "epochs": 4})
    return train(recipe, Placement(storage=str(folder), workers=workers), name=f"workers-{workers}")


def test_result_does_not_depend_on_worker_count(table, tmp_path):
    assert run(table, tmp_path).digest == run(table, tmp_path, workers=3).digest


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_result_is_the_same_on_ray(table, weighted, tmp_path):
    ones = [
        run(table, tmp_path),
        whole(weighted[0], tmp_path, "one", weight="w", class_weights="balanced", validation=0.25),
    ]
    for one in ones:
        recipe = load_run(one.run).config.recipe
        placement = Placement(storage=str(tmp_path), workers=2, backend="ray")
        on_ray = train(recipe, placement, name=f"ray-{one.digest[:8]}")
        assert (on_ray.digest, on_ray.validation_loss) == (one.digest, one.validation_loss)


def test_predictions_and_losses_are_in_the_users_units(table, tmp_path):
    result = run(table, tmp_path)
    trained = load_run(result.run)
    validation = trained.own_data().validation
    y = validation.y[validation.rows]
    predicted = trained.predict_examples(validation).outputs
    assert 30_000 < predicted.mean() < 300_000
    loss = float(((predicted - y) ** 2).sum(axis=1).mean())
    assert result.validation_loss == pytest.approx(loss, rel=1e-4)
    assert trained.evaluate().loss == pytest.approx(result.validation_loss, rel=1e-6)
    assert loss < y.var()


def test_the_run_holds_every_choice_as_a_value_of_its_recipe(table, tmp_path):
    recipe = load_run(run(table, tmp_path).run).config.recipe
    assert recipe.data.columns == {"area": "number", "kind": "category", "sold": "date", "id": "ignore"}
    assert (recipe.model.loss, recipe.data.target_scaling, recipe.data.task) == (
        "squared_error",
        "standard",
        "regression",
    )
    values = recipe.model_dump()
    assert "auto" not in json.dumps(values)
    assert run(table, tmp_path).digest == train(recipe, Placement(storage=str(tmp_path)), name="again").digest


def test_predict_takes_raw_rows_with_gaps_new_categories_and_other_columns(table, tmp_path):
    result = run(table, tmp_path)
    rows = tmp_path / "new.csv"
    rows.write_text("kind,extra,sold,area\nhouse,1,2016-02-03,\ncastle,2,,99.5\n,3,2030-01-01,10\n")
    out = tmp_path / "out.csv"
    assert main(["predict", result.run, "--data", str(rows), "--out", str(out)]) == 0
    lines = out.read_text().splitlines()
    assert lines[0] == '"price"' or lines[0] == "price"
    assert len(lines) == 4
    assert np.isfinite([float(line) for line in lines[1:]]).all()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_predict_carries_columns_of_the_data_along(table, tmp_path, suffix):
    result = run(table, tmp_path)
    rows = tmp_path / "new.csv"
    rows.write_text("kind,code,sold,area\nhouse,007,2016-02-03,20\nflat,,2017-01-01,99.5\n")
    out = tmp_path / f"out{suffix}"
    words = ["predict", result.run, "--data", str(rows), "--out", str(out)]
    assert main([*words, "--keep", "code", "--keep", "area"]) == 0
    if suffix == ".npz":
        with np.load(out) as found:
            assert (list(found), found["code"].tolist()) == (["code", "area", "price"], ["007", ""])
    else:
        found = parquet.read_table(out) if suffix == ".parquet" else csv.read_csv(out, convert_options=as_text())
        assert (found.column_names, found["code"].to_pylist()) == (["code", "area", "price"], ["007", ""])
    assert main([*words, "--keep", "cod"]) == 3
    assert main(["predict", result.run, "--data", table, "--out", str(out), "--keep", "price"]) == 2


def as_text() -> csv.ConvertOptions:
    return csv.ConvertOptions(column_types={"code": pa.string()})


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the tables lie beside the repository only where it is developed")
@pytest.mark.parametrize(
    ("name", "target", "least"),
    [
        ("penguins.csv", "species", 0.95),
        ("titanic.csv", "survived", 0.75),
        ("churn.parquet", "churn", 0.73),
        ("default.csv", "default", 0.94),
        ("seattle-weather.csv", "weather", 0.67),
        ("diabetes.parquet", "target", 0.3),
        ("cars.csv", "Miles_per_Gallon", 0.8),
        ("diamonds.parquet", "price", 0.5),
        ("gapminder.csv", "lifeExp", 0.9),
    ],
)
def test_a_real_table_trains_by_naming_its_target(tmp_path, name, target, least):
    recipe = Recipe.model_validate({"data": {"source": str(SHARED / name), "target": target}})
    result = train(recipe, Placement(storage=str(tmp_path), workers=1))
    if result.validation_accuracy is not None:
        assert result.validation_accuracy >= least
        return
    trained = load_run(result.run)
    validation = trained.own_data().validation
    y = validation.y[validation.rows]
    predicted = trained.predict_examples(validation).outputs
    assert 1 - ((y - predicted) ** 2).sum() / ((y - y.mean()) ** 2).sum() >= least


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two tables that mean the same: one with whole weights, one in which each row stands as often as it weighs."""
    numbers = np.random.default_rng(2)
    weights = numbers.integers(0, 4, 64)
    rows = {"a": numbers.normal(size=64), "b": numbers.normal(size=64)}
    y = np.where(rows["a"] + rows["b"] > 0, "up", "down")
    folder = tmp_path_factory.mktemp("weighted")
    for name, index in (("once", np.arange(64)), ("often", np.repeat(np.arange(64), weights))):
        columns = {key: column[index] for key, column in {**rows, "w": weights.astype(float), "y": y}.items()}
        parquet.write_table(pa.table(columns), folder / f"{name}.parquet")
    return str(folder / "once.parquet"), str(folder / "often.parquet")


def whole(path: str, folder: Path, name: str, workers: int = 1, **data: object) -> Result:
    """Train with all rows as one batch, so that rows that stand twice are in one batch with their twin."""
    recipe = Recipe.model_validate(
        {
            "data": {"source": path, "target": "y", "validation": 0.0, "scaling": "none", **data},
            "dtype": "float64",
            "global_batch_size": 1000,
            "epochs": 5,
        }
    )
    return train(recipe, Placement(storage=str(folder), workers=workers), name=name)


def test_a_whole_weight_counts_as_so_many_rows(weighted, tmp_path):
    once = whole(weighted[0], tmp_path, "once", weight="w")
    often = whole(weighted[1], tmp_path, "often", columns={"w": "ignore"})
    assert once.train_loss == pytest.approx(often.train_loss, rel=1e-9)
    parameters, theirs = load_run(once.run).parameters, load_run(often.run).parameters
    for name, values in parameters.items():
        np.testing.assert_allclose(values, theirs[name], rtol=1e-8, atol=1e-10)
    other = whole(weighted[0], tmp_path, "other", columns={"w": "ignore"})
    assert other.train_loss != pytest.approx(once.train_loss, rel=1e-3)


def test_weighted_result_does_not_depend_on_worker_count(weighted, tmp_path):
    weights = {"weight": "w", "class_weights": "balanced", "validation": 0.25}
    one = whole(weighted[0], tmp_path, "one", **weights)
    assert whole(weighted[0], tmp_path, "three", workers=3, **weights).digest == one.digest
    assert whole(weighted[0], tmp_path, "plain", validation=0.25).digest != one.digest


def test_balanced_classes_weigh_as_scikit_learn_says(weighted):
    utils = pytest.importorskip("sklearn.utils.class_weight", reason="the oracle is scikit-learn")
    data = prepare(Data(source=weighted[0], target="y", class_weights="balanced"), seed=0)
    y = data.train.y[data.train.rows]
    expected = utils.compute_sample_weight("balanced", y)
    np.testing.assert_allclose(data.train.take_weights(slice(None)), expected)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([-1.0, 1.0] * 20, "is -1 in data row 1; weights are finite numbers of at least 0"),
        ([0.0] * 40, "is 0 in every row"),
        ([None, 1.0] * 20, "is empty in data row 1"),
        (["x", "y"] * 20, "holds no numbers"),
    ],
)
def test_what_is_no_weight_is_refused(tmp_path, weights, sentence):
    path = tmp_path / "d.parquet"
    parquet.write_table(pa.table({"a": list(range(0, 80, 2)), "w": weights, "y": ["p", "q"] * 20}), path)
    with pytest.raises(DataError, match=sentence):
        prepare(Data(source=str(path), target="y", weight="w"), seed=0)
    with pytest.raises(DataError, match=r"data\.weight=v names no column"):
        prepare(Data(source=str(path), target="y", weight="v"), seed=0)


def test_a_result_says_what_it_is_held_against(table, weighted, tmp_path):
    result = run(table, tmp_path)
    run_ = load_run(result.run)
    assert result.validation_r2 == pytest.approx(run_.evaluate().measures.r2, rel=1e-4)
    classes = whole(weighted[0], tmp_path, "classes", validation=0.25)
    y = load_run(classes.run).own_data()
    largest = np.bincount(y.train.y[y.train.rows]).argmax()
    assert classes.largest_class == (y.validation.y[y.validation.rows] == largest).mean()


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> str:
    numbers = np.random.default_rng(4)
    a, b = numbers.normal(size=(2, 200))
    rows = {"a": a, "b": b, "hot": np.where(a > 0, "yes", "no"), "wet": a + b > 0}
    path = tmp_path_factory.mktemp("labelled") / "d.parquet"
    parquet.write_table(pa.table(rows), path)
    return str(path)


def test_several_targets_of_two_classes_are_learned_each_for_itself(labelled, tmp_path):
    recipe = Recipe.model_validate({"data": {"source": labelled, "target": ["hot", "wet"]}})
    result = train(recipe, Placement(storage=str(tmp_path), workers=1), name="one")
    three = train(recipe, Placement(storage=str(tmp_path), workers=3), name="three")
    assert three.digest == result.digest
    trained = load_run(result.run)
    assert trained.config.recipe.model.loss == "binary_cross_entropy"
    measures = trained.evaluate().measures
    assert measures.exact_match > 0.8
    assert measures.largest_class < 0.7
    found = trained.predict(pa.table({"b": [3.0, -3.0], "a": [1.0, -1.0]}))
    assert found.labels.tolist() == [["yes", "true"], ["no", "false"]]
    assert ((found.outputs >= 0) & (found.outputs <= 1)).all()
    out = tmp_path / "out.csv"
    assert main(["predict", result.run, "--data", labelled, "--out", str(out), "--probabilities"]) == 0
    names = [name.strip('"') for name in out.read_text().splitlines()[0].split(",")]
    assert names == ["hot", "wet", "probability_hot", "probability_wet"]


def test_data_show_says_what_becomes_of_every_column(table, capfd):
    assert main(["data", "show", table, "--target", "price", "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)["table"]
    assert shown["columns"] == {
        "area": "number and gaps",
        "kind": "category: 3 values and gaps",
        "sold": "date: year, month, day_of_year, weekday",
        "id": "ignored: numbers the rows",
    }
    assert main(["data", "show", table, "--target", "price"]) == 0
    assert "category: 3 values and gaps" in capfd.readouterr().out
