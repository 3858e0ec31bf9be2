"""A column that repeats the target is warned about, and one that only goes with it is not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from distbp.config import Data
from distbp.data.prepare import prepare_frame
from distbp.data.raw import Wanted
from distbp.data.tables import open_frame


def warnings_of(cells: dict, target, **settings) -> list[str]:
    table = open_frame(pa.table(cells), Wanted(target, any_names=True))
    found = prepare_frame(table, Data(source="memory", target=target, **settings), 0)
    return [warning for warning in found.warnings if "repeats the target" in warning]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("num_rows", [60, 3000])
def test_classes_by_another_name_are_the_target(rng, num_rows):
    y = rng.integers(3, size=num_rows)
    x = rng.normal(size=num_rows)
    columns = {"x": x, "name": np.array(["one", "two", "three"])[y], "code": 10 * y, "y": y}
    found = warnings_of(columns, "y")
    assert [warning.split("'")[1] for warning in found] == ["name", "code"]


def test_a_number_in_another_unit_is_the_target(rng):
    y = rng.normal(20, 5, size=500)
    columns = {"x": y + 0.01 * rng.normal(size=500), "fahrenheit": np.round(y * 1.8 + 32, 12), "y": y}
    assert [warning.split("'")[1] for warning in warnings_of(columns, "y")] == ["fahrenheit"]


@pytest.mark.parametrize("wrong_row", [5, 2990])
def test_one_row_that_differs_makes_it_another_column(rng, wrong_row):
    y = rng.integers(2, size=3000)
    names = np.array(["no", "yes"])[y]
    names[wrong_row] = "yes" if y[wrong_row] == 0 else "no"
    assert not warnings_of({"x": rng.normal(size=3000), "name": names, "y": y}, "y", validation=0.0)


def test_what_decides_the_class_without_naming_it_is_no_repetition(rng):
    x = rng.normal(size=500)
    assert not warnings_of({"x": x, "group": np.where(x > 1, "a", np.where(x > 0, "b", "c")), "y": x > 0}, "y")


def test_a_column_that_is_named_is_wanted(rng):
    y = rng.integers(2, size=100)
    columns = {"x": rng.normal(size=100), "name": np.array(["no", "yes"])[y], "y": y}
    assert warnings_of(columns, "y")
    assert not warnings_of(columns, "y", columns={"name": "category"})
    assert not warnings_of(columns, "y", columns={"name": "ignore"})
