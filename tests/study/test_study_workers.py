"""The workers study on a small private Ray cluster, made by the command."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from distbp.__main__ import main
from distbp.lab.step_times import summarize_reports
from distbp.protocol.messages import StepReport

pytestmark = pytest.mark.ray

TINY = ["--workers", "1,2", "--set", "epochs=2", "--set", "model.hidden=[8]"]


def run_study(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distbp.study.workers.study.SECONDS", 0.02)
        patch.setattr("distbp.study.workers.study.LEARNING_TRIALS", 4)
        assert main(["study", "workers", *TINY, "--out", str(folder)]) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    run_study(folder)
    return folder


def test_every_group_is_measured_in_parts(folder):
    with (folder / "numbers" / "steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["backend"], row["workers"], row["servers"]) for row in rows} >= {
        ("local", "1", "1"), ("local", "2", "1"), ("ray", "1", "1"), ("ray", "2", "1"),
    }  # fmt: skip
    for row in rows:
        parts = [float(row[f"{part}_s"]) for part in ("compute", "waiting", "transfer", "commit")]
        assert float(row["step_s"]) == pytest.approx(sum(parts))
        assert parts[0] > 0


def test_the_model_is_checked_where_it_was_not_fitted(folder):
    summary = json.loads((folder / "summary.json").read_text())
    fitted = [json.dumps(m["setting"], sort_keys=True) for m in summary["fitted"]]
    checked = [json.dumps(c["measured"]["setting"], sort_keys=True) for c in summary["checked"]]
    assert fitted
    assert checked
    assert not set(fitted) & set(checked)
    assert summary["median_error"] <= summary["largest_error"]


def test_predictions_are_marked_as_such(folder):
    page = (folder / "report.html").read_text()
    assert "Nothing in this part was measured" in page
    assert page.count("PREDICTION") >= 2


def test_the_same_command_again_measures_nothing(folder):
    before = (folder / "trials.jsonl").read_bytes()
    run_study(folder)
    assert (folder / "trials.jsonl").read_bytes() == before


def test_parts_of_a_step_add_up_to_it():
    reports = [StepReport(i, 0, 1.0, 8, "", True, 3.0, 2.0, 1.0, mean_compute_s=2.5) for i in range(5)]
    parts = summarize_reports(reports)
    assert (parts.compute_s, parts.waiting_s, parts.transfer_s, parts.commit_s) == (2.5, 0.5, 2.0, 1.0)
    assert parts.step_s == 6.0
