"""The folder that a study leaves: complete, self-contained, and telling what was measured."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from distbp.__main__ import main
from distbp.pages.words import duration, number, percent, times

pytestmark = pytest.mark.slow

TINY = ["--trials", "3", "--minutes", "0.1", "--set", "epochs=2", "--set", "model.hidden=[12]", "--goals", "0.3,0.15"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small study of the digits, made by the command."""
    folder = tmp_path_factory.mktemp("study")
    assert main(["study", "batch-size", *TINY, "--batch-sizes", "4,16,64,256,700", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def page(folder) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_needs_nothing_from_elsewhere(page):
    for pattern in (
        r"<script",
        r"<link",
        r"<img",
        r"@import",
        r"url\((?!#)",
        r'(?:src|href)="(?!#)',
        r"https?://(?!www\.w3\.org)",
    ):
        assert not re.search(pattern, page), pattern


def test_the_page_is_well_formed_and_its_ids_are_unique(page):
    class Checker(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open: list[str] = []
            self.ids: list[str] = []

        def handle_starttag(self, tag, attrs):
            self.ids += [value for name, value in attrs if name == "id"]
            if tag not in ("meta", "br"):
                self.open.append(tag)

        def handle_startendtag(self, _, attrs):
            self.ids += [value for name, value in attrs if name == "id"]

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    used = set(re.findall(r"url\(#([^)]+)\)", page)) | set(re.findall(r'href="#([^"]+)"', page))
    assert used <= set(checker.ids)


def test_every_plot_is_there_as_png_and_svg_and_in_the_page(folder, page):
    names = {path.stem for path in (folder / "plots").glob("*.png")}
    assert names == {path.stem for path in (folder / "plots").glob("*.svg")}
    assert {"race", "steps", "examples", "seconds", "cosines", "noise", "rules"} <= names
    assert page.count("<figure>") == len(names)


def test_plots_follow_the_colours_of_the_page(page):
    figures = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "var(--series-1)" in figures
    assert not re.search(r"#(2563eb|1f2937)", figures)


def test_page_summary_and_csv_tell_the_same(folder, page):
    summary = json.loads((folder / "summary.json").read_text())
    hardest = summary["goals"][-1]
    with (folder / "numbers" / "goals.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if float(row["goal"]) == hardest["goal"]]
    assert [int(row["batch_size"]) for row in rows] == [4, 16, 64, 256, 700, 1438]
    assert [int(row["steps"]) for row in rows] == [size["steps"] for size in hardest["sizes"]]
    assert f"{times(hardest['times_faster'])} ×" in page
    assert summary["epoch"]["fewest"] == summary["epoch"]["most"] == 1
    assert "exactly once each" in page


def test_best_is_the_minimum_over_the_stored_trials(folder):
    trials = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    goal = json.loads((folder / "summary.json").read_text())["goals"][0]
    for size in goal["sizes"]:
        if not size["reached"]:
            continue
        curves = [t["result"]["curve"] for t in trials if t["key"].startswith(f"search/{size['batch_size']}/")]
        firsts = [next((p["step"] for p in curve if p["error"] < goal["goal"]), 10**9) for curve in curves]
        assert size["steps"] == min(firsts)


def test_the_same_command_again_measures_nothing(folder):
    before = (folder / "trials.jsonl").read_bytes()
    assert main(["study", "batch-size", *TINY, "--batch-sizes", "4,16,64,256,700", "--out", str(folder)]) == 0
    assert (folder / "trials.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (number(12345.6), "12,346"),
        (number(43.2), "43"),
        (number(3.14159), "3.14"),
        (number(0.02713), "0.0271"),
        (number(4), "4"),
        (number(None), "-"),
        (duration(1.2e-5), "12 µs"),
        (duration(0.0034), "3.4 ms"),
        (duration(1.254), "1.25 s"),
        (duration(726), "12.1 min"),
        (duration(11160), "3.1 h"),
        (percent(0.031), "3.1 %"),
        (times(5.68), "5.7"),
        (times(123.4), "120"),
        (times(1234), "1,200"),
    ],
)
def test_words(made, text):
    assert made == text
