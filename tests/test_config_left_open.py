"""What the data choose where nobody has set it stays open on every way that a configuration takes before a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from distbp.__main__ import main
from distbp.advise.telling import write_config
from distbp.config import Config, Recipe, describe_config, load_config, parse_config, to_values
from distbp.config.settling import TABLE_WEIGHT_DECAY
from distbp.data import prepare
from distbp.service.package import CONFIG_FILE, pack
from distbp.training.plan import Plan, make_plan

SETTINGS = [
    {},
    {"epochs": 20},
    {"optimizer": {"weight_decay": 0.0}},
    {"optimizer": {"learning_rate": 0.05}},
    {"epochs": 20, "optimizer": {"weight_decay": 0.0}},
]


@pytest.fixture(autouse=True)
def table(tmp_path, monkeypatch) -> None:
    """A current folder with a table of 200 rows."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{a:.3f},{'xyz'[i % 3]},{int(a > 0)}" for i, a in enumerate(np.random.default_rng(0).normal(size=200))]
    Path("table.csv").write_text("\n".join(["a,c,y", *rows]) + "\n")


def config_of(settings: dict) -> Config:
    return parse_config(
        {"recipe": {"data": {"source": "table.csv", "target": "y"}, **settings}, "placement": {"storage": "/runs"}}
    )


def plan_of(config: Config) -> Plan:
    return make_plan(config, prepare(config.recipe.data, config.recipe.seed))


def print_it(config: Config) -> Config:
    Path("printed.yaml").write_text(describe_config(config))
    return load_config("printed.yaml")


def submit_it(config: Config) -> Config:
    Path("sent").mkdir()
    pack(config, Path("sent"))
    return load_config(f"sent/{CONFIG_FILE}")


def write_advice(config: Config) -> Config:
    write_config(config, "advised.yaml")
    return load_config("advised.yaml")


def pass_as_values(config: Config) -> Config:
    return parse_config(json.loads(json.dumps(to_values(config))))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("way", [print_it, submit_it, write_advice, pass_as_values])
def test_the_same_recipe_is_trained_on_a_table(way, settings):
    config = config_of(settings)
    ours, theirs = plan_of(config).recipe, plan_of(way(config)).recipe
    assert theirs == ours
    assert theirs.digest == ours.digest


def test_on_a_table_unset_is_not_the_default():
    left, given = (plan_of(config_of(settings)).recipe for settings in (SETTINGS[0], SETTINGS[-1]))
    assert (left.epochs, left.optimizer.weight_decay) == (100, TABLE_WEIGHT_DECAY)
    assert (given.epochs, given.optimizer.weight_decay) == (20, 0.0)
    assert left.digest != given.digest


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["yaml", "json"])
def test_the_command_prints_what_trains_the_same(capsys, options):
    overrides = ["--set", "data.source=table.csv", "--set", "data.target=y"]
    assert main(["config", *overrides, *options]) == 0
    Path("printed.yaml").write_text(capsys.readouterr().out)
    assert plan_of(load_config("printed.yaml")).recipe == plan_of(config_of({})).recipe


@pytest.mark.parametrize(("settings", "mark"), [(SETTINGS[0], "# "), (SETTINGS[-1], "")])
def test_a_printed_configuration_shows_what_is_open_as_a_comment(settings, mark):
    lines = describe_config(config_of(settings)).split("\n")
    assert any(line.startswith(f"  {mark}epochs: 20  ") for line in lines)
    assert any(line.startswith(f"    {mark}weight_decay: 0.0  ") for line in lines)


def test_a_file_of_a_version_without_a_field_keeps_open_what_was_open():
    values = to_values(Config(recipe=Recipe()))
    del values["recipe"]["data"]["columns"]  # as if the version that printed it had not had the field
    Path("old.yaml").write_text(json.dumps(values))
    recipe = load_config("old.yaml").recipe
    assert recipe.data.columns is None
    assert "epochs" not in recipe.model_fields_set
    assert "weight_decay" not in recipe.optimizer.model_fields_set
    assert "momentum" in recipe.optimizer.model_fields_set
