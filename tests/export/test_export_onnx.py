"""ONNX files against distbp's own predictions, computed by onnxruntime: labels equal, outputs as near as rounding."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import pytest

from distbp import Placement, Recipe, load_run, train
from distbp.export import OPSET, to_onnx

pytestmark = pytest.mark.slow

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

NEAR = {"float32": {"rtol": 2e-5, "atol": 2e-6}, "float64": {"rtol": 1e-10, "atol": 1e-12}}
ACTIVATIONS = ["sigmoid", "tanh", "relu", "gelu", "identity"]


def make_run(folder, **recipe):
    """Return a trained run of a recipe; its data are relative to the folder."""
    data = {**recipe.pop("data", {"source": "digits"})}
    if data["source"] != "digits":
        data["source"] = str(folder / data["source"])
    values = {"epochs": 2, "data": data, **recipe}
    result = train(Recipe.model_validate(values), Placement(storage=str(folder / "runs")))
    return load_run(result.run)


def ask(content: bytes, inputs: dict) -> dict:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def check_same(run, found: dict, expected) -> None:
    near = NEAR[run.config.recipe.dtype]
    if expected.labels is None:
        np.testing.assert_allclose(found["prediction"], expected.outputs, **near)
        return
    np.testing.assert_allclose(found["probabilities"], expected.outputs, **near)
    best = np.sort(expected.outputs, axis=1)
    is_clear = best[:, -1] - best[:, -2] > 1e-5  # else rounding decides
    assert is_clear.mean() > 0.9
    assert (found["label"][is_clear] == expected.labels[is_clear]).all()


@pytest.mark.parametrize(
    ("dtype", "activation", "loss"),
    [*itertools.product(NEAR, ACTIVATIONS, ["cross_entropy"]), *((d, "tanh", "squared_error") for d in NEAR)],
)
def test_classes_of_images_are_those_of_predict(tmp_path, dtype, activation, loss):
    run = make_run(tmp_path, dtype=dtype, model={"hidden": (16, 8), "activation": activation, "loss": loss})
    x = np.random.default_rng(0).uniform(0, 16, (200, *run.schema.input_shape))
    found = ask(to_onnx(run.network), {"x": x})
    check_same(run, found, run.predict(x))
    assert found["label"].dtype == np.int64


@pytest.mark.parametrize("scaling", ["none", "min-max", "standard"])
@pytest.mark.parametrize("labels", [["no", "yes", "grün"], [7, 8, 40], [True, False]], ids=str)
def test_a_table_is_asked_by_its_columns_and_answers_with_its_labels(tmp_path, scaling, labels):
    generator = np.random.default_rng(1)
    # The time is too far from 0 for its spread to be rounded to float32 before it is shifted.
    columns = {"size of it": generator.normal(size=90), "time": 1.7e9 + generator.integers(0, 900, 90)}
    answers = [labels[number % len(labels)] for number in range(90)]
    pa.parquet.write_table(pa.table({**columns, "answer": answers}), tmp_path / "t.parquet")
    if scaling == "none":
        columns["time"] = columns["time"] - 1.7e9
        pa.parquet.write_table(pa.table({**columns, "answer": answers}), tmp_path / "t.parquet")
    run = make_run(tmp_path, data={"source": "t.parquet", "target": "answer", "scaling": scaling})
    inputs = {name: values.astype(np.float64)[:, None] for name, values in columns.items()}
    found = ask(to_onnx(run.network), inputs)
    check_same(run, found, run.predict(np.hstack(list(inputs.values()))))
    assert set(found["label"].tolist()) <= set(labels)
    assert type(found["label"].tolist()[0]) is type(labels[0])


@pytest.mark.parametrize("dtype", NEAR)
def test_numbers_are_those_of_predict(tmp_path, dtype):
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(80, 5)), generator.normal(size=(80, 3))
    np.savez(tmp_path / "d.npz", x=x, y=y)
    recipe = {"model": {"loss": "squared_error", "hidden": ()}, "optimizer": {"learning_rate": 0.01}}
    run = make_run(tmp_path, dtype=dtype, data={"source": "d.npz", "task": "regression"}, **recipe)
    check_same(run, ask(to_onnx(run.network), {"x": x}), run.predict(x))


PARTS = {
    "year": pc.year,
    "month": pc.month,
    "day_of_year": pc.day_of_year,
    "weekday": pc.day_of_week,
    "second_of_day": lambda column: pc.multiply(pc.day(column), 0),
}


def give_columns(table: pa.Table, wanted: list[str]) -> dict[str, np.ndarray]:
    """Return a table's columns as an ONNX file takes them: numbers with NaN, text with empty text, parts of dates."""
    given = {}
    for name in wanted:
        column = table.column(name.partition(".")[0])
        if pa.types.is_date(column.type):
            column = PARTS[name.partition(".")[2]](column)
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.string())
        if pa.types.is_string(column.type):
            given[name] = np.array([text or "" for text in column.to_pylist()], object)[:, None]
        else:
            given[name] = np.array([np.nan if v is None else float(v) for v in column.to_pylist()])[:, None]
    return given


def make_mixed(num: int = 120) -> pa.Table:
    """Return a table with numbers, gaps, text and dates."""
    generator = np.random.default_rng(5)
    gaps = generator.uniform(size=num) < 0.15
    plans = np.array(["basic", "plus", "größer"])[generator.integers(0, 3, num)]
    return pa.table(
        {
            "size": generator.normal(size=num),
            "age": pa.array(generator.integers(18, 90, num), mask=gaps),
            "plan": pa.array(plans.tolist(), mask=np.roll(gaps, 3)),
            "since": pa.array(np.datetime64("2020-01-01") + generator.integers(0, 900, num)),
            "is_new": generator.uniform(size=num) < 0.5,
        }
    )


@pytest.mark.parametrize("scaling", ["none", "min-max", "standard"])
@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("target", ["label", "price", "both"])
def test_a_table_of_mixed_columns_is_prepared_in_the_graph(tmp_path, target, dtype, scaling):
    table = make_mixed()
    generator = np.random.default_rng(6)
    answers = {
        "label": {"label": generator.choice(["yes", "no"], len(table))},
        "price": {"price": 1e5 + 1e4 * generator.normal(size=len(table))},
        "both": {"a": generator.choice(["x", "y"], len(table)), "b": generator.choice(["no", "yes"], len(table))},
    }[target]
    whole = pa.table({**{name: table.column(name) for name in table.column_names}, **answers})
    pa.parquet.write_table(whole, tmp_path / "t.parquet")
    data = {"source": "t.parquet", "target": list(answers), "scaling": scaling}
    run = make_run(tmp_path, dtype=dtype, data=data, optimizer={"learning_rate": 0.001})
    asked = table.slice(0, 100).set_column(2, "plan", pa.array(["unheard of", None, *table["plan"].to_pylist()[2:100]]))
    content = to_onnx(run.network)
    wanted = [value.name for value in onnx.load_from_string(content).graph.input]
    assert {name.partition(".")[0] for name in wanted} == set(table.column_names)
    found, expected = ask(content, give_columns(asked, wanted)), run.predict(asked)
    if target == "both":
        np.testing.assert_allclose(found["probabilities"], expected.outputs, **NEAR[dtype])
        assert (found["label"] == expected.labels).mean() > 0.98
    else:
        check_same(run, found, expected)


def test_the_file_says_its_opset_and_whose_parameters_it_holds(tmp_path):
    run = make_run(tmp_path)
    model = onnx.load_from_string(to_onnx(run.network, {"digest": run.digest}))
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    assert {entry.key: entry.value for entry in model.metadata_props}["digest"] == run.digest
    assert to_onnx(run.network) == to_onnx(run.network)


def test_the_network_of_an_estimator_is_exported_too():
    from distbp.sklearn import DistbpClassifier

    generator = np.random.default_rng(3)
    y = np.array(["low", "high"])[np.arange(60) % 2]
    x = generator.normal(size=(60, 3)) + (y == "high")[:, None] * 3.0
    model = DistbpClassifier().fit(x, y)
    found = ask(to_onnx(model.network_), {"x": x})
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(x), **NEAR["float32"])
    assert (found["label"] == model.predict(x)).mean() > 0.98
