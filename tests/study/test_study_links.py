"""The links study: what it computes, what it tries, and the page about it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from distbp.__main__ import main
from distbp.config import Recipe
from distbp.errors import ConfigError
from distbp.lab.curves import CurvePoint
from distbp.lab.trial import TrialResult, plan_for
from distbp.study.links.cost import MESSAGE_S, Links, Way, bytes_of_commit, num_commits, seconds_of_steps
from distbp.study.links.findings import Choice, Tried, find_way
from distbp.study.links.study import LinksSettings, check_settings, choices_for, recipe_for
from distbp.study.links.trial import LinksTrial, run_links_trial

LINKS = Links(num_hosts=4, mbit_s=50)
RECIPE = Recipe.model_validate({"model": {"hidden": [8]}, "epochs": 2, "global_batch_size": 100})


def test_each_of_four_hosts_sends_three_quarters_of_gradient_and_parameters():
    assert bytes_of_commit(4_000_000, 4) == 6_000_000
    assert bytes_of_commit(4_000_000, 2) == 4_000_000
    assert bytes_of_commit(4_000_000, 1) == 0


def test_rounds_compute_as_much_and_send_as_many_times_less_as_they_have_steps():
    every, rounds = Way(512, 4), Way(512, 4, 20, 4)
    part_s, num_bytes = 0.004, 4_000_000
    sent_s = 8 * 6_000_000 / 50e6
    assert seconds_of_steps(every, 100, part_s, num_bytes, LINKS) == pytest.approx(100 * (part_s + sent_s + MESSAGE_S))
    assert seconds_of_steps(rounds, 100, part_s, num_bytes, LINKS) == pytest.approx(
        100 * part_s + 5 * (sent_s + MESSAGE_S)
    )
    assert num_commits(rounds, 101) == 6


def test_one_host_sends_nothing():
    assert seconds_of_steps(Way(512, 1), 100, 0.01, 4_000_000, LINKS) == pytest.approx(1.0)


def test_a_host_with_several_replicas_computes_one_after_the_other():
    assert [Way(512, 4, 20, replicas).turns for replicas in (1, 4, 5, 8)] == [1, 1, 2, 2]
    assert [Way(512, 4, 20, replicas).part for replicas in (1, 4, 8)] == [512, 128, 64]
    assert Way(512, 4).part == 128


def curve(*errors: float) -> TrialResult:
    points = tuple(CurvePoint(10 * number, error, error) for number, error in enumerate(errors))
    return TrialResult(points, "cut", points[-1].step)


def test_time_and_error_are_each_told_of_their_best_choice():
    fast, good = Choice(0.3, 1.0, 0.0), Choice(0.1, 0.7, 0.9)
    tried = Tried(Way(512, 4, 5, 4), 0.01, (fast, good), (curve(0.9, 0.1, 0.09), curve(0.9, 0.2, 0.08)))
    found = find_way(tried, 0.15, 4_000_000, LINKS)
    assert (found.choice, found.steps, found.commits) == (fast, 10, 2)
    assert (found.error, found.error_choice) == (0.08, good)
    assert found.sent_bytes == 2 * 6_000_000


def test_what_never_reached_the_goal_has_no_time():
    found = find_way(Tried(Way(512, 1), 0.01, (Choice(1.0),), (curve(0.9, 0.5),)), 0.1, 4, LINKS)
    assert (found.steps, found.seconds, found.choice, found.error) == (None, None, None, 0.5)


def test_every_way_gets_the_same_number_of_choices():
    for way in (Way(100, 1), Way(100, 4, 5, 4)):
        assert len(set(choices_for(RECIPE, way, 6))) == 6


def test_a_trial_in_rounds_is_measured_at_commits_only():
    recipe = recipe_for(RECIPE, Way(100, 4, 4, 2), Choice(0.1, 1.0, 0.0))
    assert (recipe.rounds.steps, recipe.rounds.replicas, recipe.microbatch_size) == (4, 2, 50)
    found = run_links_trial(LinksTrial(recipe, 30, 10**6))
    ends = {0, 4, 8, 12, 15, 19, 23, 27, 30}
    assert {point.step for point in found.curve} <= ends
    assert found.curve[-1].step == 30


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (LinksSettings(Links(1, 50), (5,), (2,), 2), "--hosts 1"),
        (LinksSettings(LINKS, (99,), (2,), 2), "--steps: 99 is more than the 15 steps of an epoch"),
        (LinksSettings(LINKS, (5,), (101,), 2), "--replicas: 101 is larger than global_batch_size=100"),
        (LinksSettings(LINKS, (5,), (2,), 2, goal=1.5), "--goal 1.5 is no error"),
    ],
)
def test_what_cannot_be_tried_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        check_settings(RECIPE, settings)


def test_other_studies_refuse_a_recipe_in_rounds():
    recipe = Recipe.model_validate({"rounds": {"steps": 5, "replicas": 2}})
    with pytest.raises(ConfigError, match=r"leave recipe\.rounds out"):
        plan_for(recipe)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("links")
    argv = ["study", "links", "--trials", "2", "--steps", "1,5", "--replicas", "2", "--out", str(folder)]
    assert main([*argv, "--set", "epochs=2", "--set", "model.hidden=[8]"]) == 0
    return folder


@pytest.mark.slow
def test_the_study_leaves_a_page_numbers_and_a_summary(folder):
    summary = json.loads((folder / "summary.json").read_text())
    assert [way["way"]["steps"] for way in summary["rounds"]] == [1, 5]
    assert {way["way"]["batch_size"] for way in summary["one_host"]} == {64, 32, 16, 8}
    with (folder / "numbers" / "ways.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 + 1 + 2
    page = (folder / "report.html").read_text()
    assert "change the numbers" in page
    assert "2 x 5 steps" in page


@pytest.mark.slow
def test_every_step_has_the_numbers_of_one_host_with_the_same_batch(folder):
    summary = json.loads((folder / "summary.json").read_text())
    whole = next(way for way in summary["one_host"] if way["way"]["batch_size"] == 64)
    assert summary["every_step"]["steps"] == whole["steps"]
    assert summary["every_step"]["error"] == whole["error"]
