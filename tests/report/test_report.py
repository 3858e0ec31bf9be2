"""A page about runs is true to what they left in storage, and needs no other file."""

from __future__ import annotations

import json
import re
import signal
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from distbp import Placement, Recipe, train
from distbp.cli.app import app
from distbp.errors import CheckpointError, TerminatedRunError
from distbp.report import read_story, write_report
from distbp.report.page import judge
from distbp.report.story import MAX_POINTS, list_differences
from distbp.run import RunDirectory

pytestmark = pytest.mark.slow

RECIPE = {"model": {"hidden": [8]}, "epochs": 20}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, str]:
    """Two runs of one recipe, one of another, and one that was stopped."""
    storage = str(tmp_path_factory.mktemp("runs"))

    def start(name: str, workers: int = 2, observe=None, **changes: object) -> str:
        recipe = Recipe.model_validate({**RECIPE, **changes})
        return train(recipe, Placement(storage=storage, workers=workers), name=name, observe=observe).run

    def stop(progress) -> None:
        if progress.position.step == 100:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(TerminatedRunError):
        start("stopped", observe=stop)
    return {
        "a": start("a"),
        "b": start("b", workers=3),
        "slow": start("slow", optimizer={"learning_rate": 0.01}),
        "stopped": f"{storage}/stopped",
    }


def read(runs: dict[str, str], *names: str) -> list:
    return [read_story(runs[name]) for name in names]


def test_a_final_accuracy_of_zero_is_shown_as_zero(runs):
    [story] = read(runs, "a")
    assert story.evaluations[-1].accuracy > 0
    assert replace(story, result={**story.result, "validation_accuracy": 0.0}).accuracy == 0.0
    assert replace(story, result=None).accuracy == story.evaluations[-1].accuracy


def test_curves_are_means_of_the_recorded_losses(runs):
    [story] = read(runs, "a")
    records = RunDirectory.open(runs["a"]).read_steps()
    steps, losses = story.losses
    assert len(steps) == MAX_POINTS < len(records)
    assert losses[0] == pytest.approx(np.mean([record.loss for record in records[:2]]))
    assert np.average(losses, weights=[len(p) for p in np.array_split(records, MAX_POINTS)]) == pytest.approx(
        np.mean([record.loss for record in records])
    )


def test_every_epoch_has_its_evaluation_and_the_last_one_is_the_results(runs):
    [story] = read(runs, "a")
    assert [e.step for e in story.evaluations] == [23 * epoch for epoch in range(1, 21)]
    assert story.evaluations[-1].loss == story.result["validation_loss"]
    assert story.evaluations[-1].accuracy == story.result["validation_accuracy"] == story.accuracy


def test_parts_of_a_step_and_of_a_run_add_up(runs):
    [story] = read(runs, "a")
    records = RunDirectory.open(runs["a"]).read_steps()
    assert story.times.compute_s == np.median([record.compute_s for record in records])
    assert sum(story.accounts.values()) == pytest.approx(story.result["seconds"], abs=0.01)


def test_verdict_says_who_ends_with_the_same_bytes(runs):
    assert judge(read(runs, "a")) is None
    assert judge(read(runs, "a", "b")) == "All of these runs end with the same bytes."
    assert judge(read(runs, "a", "b", "slow")) == (
        "a and b end with the same bytes; slow ends with others, as 2 different recipes or data let expect."
    )
    assert "Not all of these runs have finished" in judge(read(runs, "a", "stopped"))


def test_only_fields_that_differ_are_listed(runs):
    assert list_differences(read(runs, "a", "b")) == [("placement.workers", ["2", "3"])]
    assert list_differences(read(runs, "a", "slow")) == [("recipe.optimizer.learning_rate", ["0.1", "0.01"])]


def test_stopped_run_has_a_story_without_a_result(runs):
    [story] = read(runs, "stopped")
    assert (story.state, story.num_steps, story.digest, story.accounts) == ("stopped", 100, None, {})
    assert any(entry.is_trouble for entry in story.timeline)


@pytest.mark.parametrize("names", [["a"], ["a", "b", "slow", "stopped"]])
def test_page_is_complete_and_needs_no_other_file(names, runs, tmp_path):
    stories = read(runs, *names)
    write_report(stories, tmp_path / "deep" / "page.html")
    page = (tmp_path / "deep" / "page.html").read_text()
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert not re.search(r"url\((?!#)", page)
    figures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(figures) == 4
    for figure in figures:
        ElementTree.fromstring(figure)
    for story in stories:
        assert story.digest is None or story.digest in page
        assert story.name in page


def test_names_cannot_break_the_page(runs, tmp_path):
    [story] = read(runs, "a")
    object.__setattr__(story, "name", "<script>alert(1)</script>")
    write_report([story], tmp_path / "page.html")
    assert "<script>" not in (tmp_path / "page.html").read_text()


def test_command_writes_the_page_and_names_the_runs(runs, tmp_path):
    out = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["report", runs["a"], runs["b"], "--out", str(out), "--json"])
    assert done.exit_code == 0
    assert [run["state"] for run in json.loads(done.stdout)["runs"]] == ["finished", "finished"]
    assert out.exists()


@pytest.mark.parametrize(("argv", "code"), [(["absent"], 4), (["x"] * 9, 2)])
def test_mistakes_are_sentences(argv, code, tmp_path):
    done = CliRunner().invoke(app, ["report", *argv, "--out", str(tmp_path / "page.html"), "--json"])
    assert done.exit_code == code
    assert not (tmp_path / "page.html").exists()


def test_run_that_has_done_no_step_has_a_page(tmp_path):
    config = read_config(tmp_path)
    run = RunDirectory.create(str(tmp_path), "new", config, {"numpy": "2", "blas": [], "probe": "0"})
    write_report([read_story(run.url)], tmp_path / "page.html")
    assert "No step has been done yet." in (tmp_path / "page.html").read_text()
    with pytest.raises(CheckpointError):
        read_story(str(tmp_path / "absent"))


def read_config(tmp_path):
    from distbp.config import load_config

    return load_config(None, [f"placement.storage={tmp_path}"])


def test_a_log_whose_end_was_lost_says_so_when_the_run_goes_on_and_in_the_report(tmp_path, caplog):
    def stop(progress) -> None:
        if progress.position.step == 7:
            signal.raise_signal(signal.SIGTERM)

    recipe, placement = Recipe.model_validate({**RECIPE, "epochs": 1}), Placement(storage=str(tmp_path))
    with pytest.raises(TerminatedRunError):
        train(recipe, placement, name="cut", observe=stop)
    log = tmp_path / "cut" / "steps.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:4]))
    train(recipe, placement, name="cut")
    assert re.search(r"steps.jsonl' ends with step 4 although the run has done 7: its end was lost", caplog.text)
    told = [entry.text for entry in read_story(str(tmp_path / "cut")).timeline]
    assert "steps 5 to 7 are missing in the step log: a part of it was lost" in told
