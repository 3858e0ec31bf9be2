"""The page in real Chromium for tables: weights and the units of the data are shown, said, and add up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser import IS_THERE, emulate, open_chromium

from distbp import Explanation, Placement, Recipe, explain_run, train
from distbp.explain.page import choose_page_writer

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytest.importorskip("selenium.webdriver", reason="needs selenium, from the extra distbp[test]")

CLOSE = {"rel": 1e-5, "abs": 1e-9}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not IS_THERE, reason="needs Debian's packages chromium and chromium-driver"),
]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with open_chromium(tmp_path_factory.mktemp("chromium")) as browser:
        emulate(browser, 1180, "light")
        yield browser


@pytest.fixture(scope="module")
def explain_table(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Explanation]:
    """Explains a run on 24 houses of which all make one batch: `data` says what is learned, and by which weights."""
    folder, rng = tmp_path_factory.mktemp("houses"), np.random.default_rng(1)
    area, age, asked = rng.uniform(40, 200, 24), rng.uniform(0, 90, 24), rng.uniform(0.5, 4, 24)
    price, is_sold = 3000 * area - 900 * age + 50_000, np.where(area + rng.normal(0, 20, 24) > 150, "yes", "no")
    lines = ["area,age,asked,price,sold"]
    lines += [",".join(map(str, row)) for row in zip(area, age, asked, price, is_sold, strict=True)]
    (folder / "houses.csv").write_text("\n".join(lines) + "\n")

    def call(name: str, **data: object) -> Explanation:
        columns = {column: "ignore" for column in ("asked", "price", "sold") if column not in data.values()}
        source = {"source": str(folder / "houses.csv"), "validation": 0.0, "columns": columns}
        recipe = Recipe.model_validate(
            {"data": {**source, **data}, "model": {"hidden": [6, 4]}, "global_batch_size": 24, "epochs": 2}
        )
        return explain_run(train(recipe, Placement(storage=str(folder)), name=name).run, 2)

    return call


def open_page(browser: Chrome, explanation: Explanation, folder: Path) -> None:
    choose_page_writer(str(folder / "page.html"))(explanation)
    browser.get((folder / "page.html").as_uri())
    assert browser.execute_script("return document.documentElement.dataset.ready")
    assert browser.get_log("browser") == []


def values(browser: Chrome, selector: str) -> list[float]:
    script = "return [...document.querySelectorAll(arguments[0])].map(e => +e.dataset.value)"
    found: list[float] = browser.execute_script(script, selector)
    return found


def text(browser: Chrome, selector: str) -> str:
    found: str = browser.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector)
    return found


def test_a_weighted_table_shows_weights_and_its_averages_are_of_them(chromium, explain_table, tmp_path):
    explanation = explain_table("sold", target="sold", weight="asked", class_weights="balanced")
    open_page(chromium, explanation, tmp_path)
    assert "counts in the average with it" in text(chromium, "#weight-note")
    assert text(chromium, "#units-note") == ""
    assert values(chromium, "[data-fact=weight]") == pytest.approx([explanation.example.weight], **CLOSE)
    table, batch = explanation.table, explanation.batch
    assert values(chromium, "[data-weight]") == pytest.approx(table.weights.tolist(), **CLOSE)
    assert len(set(table.weights)) > 1
    shares = values(chromium, "[data-share]")
    assert sum(shares) == pytest.approx(len(batch.indices))
    assert sorted(shares) == pytest.approx(sorted(share * len(shares) for share in batch.shares.tolist()), **CLOSE)
    assert values(chromium, "[data-fact=average]") == pytest.approx(
        [np.average(explanation.pulls.costs, weights=explanation.pulls.weights)], **CLOSE
    )
    columns = len(table.examples)
    for row in range(len(table.names)):
        shown = [values(chromium, f"[data-wish='{row}-{place}']")[0] for place in range(columns + 2)]
        assert shown[:columns] == pytest.approx(table.wishes[row].tolist(), **CLOSE)
        assert shown[columns:] == pytest.approx([table.batch_average[row], table.all_average[row]], **CLOSE)


def test_numbers_to_predict_are_shown_in_the_units_of_the_data(chromium, explain_table, tmp_path):
    explanation = explain_table("price", target="price")
    example = explanation.example
    open_page(chromium, explanation, tmp_path)
    assert "in the units of your data" in text(chromium, "#units-note")
    assert text(chromium, "#weight-note") == ""
    assert values(chromium, "[data-fact=weight]") == []
    assert values(chromium, "td.says") == pytest.approx(example.outputs.tolist(), **CLOSE)
    assert values(chromium, "[data-wanted]") == pytest.approx(example.wanted.tolist(), **CLOSE)
    assert values(chromium, "td.nudge") == pytest.approx(example.nudges[-1].tolist(), **CLOSE)
    assert values(chromium, "[data-fact=cost]") == pytest.approx([example.cost], **CLOSE)
    off = float(example.wanted[0] - example.outputs[0])
    assert values(chromium, "[data-fact=cost]") == pytest.approx([off**2], rel=1e-5)
    assert abs(example.wanted[0]) > 50_000
    said = text(chromium, ".big")
    assert said.startswith("The network says ")
    assert f"{round(example.wanted[0]):,}" in said
    assert f"which is {round(example.outputs[0]):,} in the units of the data" in text(chromium, "#ways-body")
    assert "costs here are those of the scaled targets" in text(chromium, "#ways-body")


def test_a_table_without_either_says_nothing_of_them(chromium, explain_table, tmp_path):
    explanation = explain_table("plain", target="sold")
    open_page(chromium, explanation, tmp_path)
    assert text(chromium, "#units-note") + text(chromium, "#weight-note") == ""
    assert values(chromium, "[data-weight]") == []
    assert "scaled targets" not in text(chromium, "main")
