"""The configuration as text: YAML without surprises, what is printed reads back as the same, paths are found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from distbp.advise.evidence import choose_microbatch
from distbp.config import Config, Recipe, describe_config, dump_yaml, load_config, parse_config, parse_yaml
from distbp.errors import ConfigError
from distbp.lab.trial import with_batch

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.text("01:._-+eExXoOnNyYtTfF~<=# [](){},'\"\n\t&*!|>%@`?", min_size=1, max_size=8),
    st.sampled_from(
        ["no", "on", "yes", "1e3", "010", "0o10", "0x1F", "1_000", "1:30", "2026-11-27", "null", "~", "<<", "=", ".inf"]
    ),
)
PLAIN = st.recursive(
    st.one_of(TEXTS, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)


def read_back(config: Config, folder: Path) -> Config:
    path = folder / "printed.yaml"
    path.write_text(describe_config(config), encoding="utf-8")
    return load_config(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("0o10", 8),
        ("0x10", 16),
        ("+7", 7),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("190:20:30", "190:20:30"),
        ("2:4", "2:4"),
        ("0b11", "0b11"),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("Off", "Off"),
        ("true", True),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
        (".5", 0.5),
        ("1.", 1.0),
        ("1_0.5", "1_0.5"),
        ("2026-11-27", "2026-11-27"),
        ("=", "="),
        ("~", None),
        ("", None),
    ],
)
def test_values_are_what_they_look_like(text, value):
    found = parse_yaml(text)
    assert (found, type(found)) == (value, type(value))


def test_a_number_with_a_leading_zero_is_no_octal():
    assert load_config(None, ["epochs=010"]).recipe.epochs == 10


@pytest.mark.parametrize("text", ["1:30", "1_000", "1e1", "no"])
def test_what_is_no_whole_number_is_refused_and_shown(text):
    with pytest.raises(ConfigError, match=r"recipe\.epochs is .*expected a whole number"):
        load_config(None, [f"epochs={text}"])


def test_what_is_no_truth_value_is_refused_and_shown():
    with pytest.raises(ConfigError, match=r"nesterov is text \('yes'\); expected true or false"):
        load_config(None, ["optimizer.nesterov=yes"])


@given(PLAIN)
def test_what_is_written_reads_back_by_yaml_1_1_and_1_2(value):
    text = dump_yaml(value)
    assert parse_yaml(text) == value
    assert yaml.safe_load(text) == value


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("data.target=[x, y]", "target: [x, y]"),
        ('data.source="[/old]/x.csv"', "source: '[/old]/x.csv'"),
        ('data.target="no"', "target: 'no'"),
        ('data.target="1e3"', "target: '1e3'"),
        ('data.target="a\\nb"', 'target: "a\\nb"'),
    ],
)
def test_lists_and_text_are_printed_as_they_are_read(override, line):
    assert line in describe_config(load_config(None, [override]))


@given(source=TEXTS, target=st.one_of(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), options=PLAIN)
def test_a_printed_configuration_reads_back_as_the_same(tmp_path_factory, source, target, options):
    values = {
        "recipe": {
            "data": {"source": source, "target": target},
            "model": {"function": "m:f", "options": {"it": options}},
        }
    }
    config = Config.model_validate(values)
    assert read_back(config, tmp_path_factory.getbasetemp()) == config
    assert all(line.count("#") >= 1 or line.endswith(":") for line in describe_config(config).split("\n"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of configurations, one below the current one."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "experiments"
    folder.mkdir()
    return folder


DATA = "recipe: {data: {source: x.npy, target: y.npy, validation: v.npy}}\n"


def data_paths(path: Path) -> list[Any]:
    data = load_config(path).recipe.data
    return [data.source, data.target, data.validation]


def test_data_are_found_beside_the_configuration(folder):
    (folder / "c.yaml").write_text(DATA)
    for name in ("x.npy", "y.npy", "v.npy"):
        (folder / name).touch()
    beside = [f"experiments/{name}" for name in ("x.npy", "y.npy", "v.npy")]
    assert data_paths(Path("experiments/c.yaml")) == beside
    assert data_paths(folder / "c.yaml") == beside


def test_data_are_found_by_a_path_from_the_configuration(folder, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.csv").touch()
    (folder / "c.yaml").write_text("recipe: {data: {source: ../data/x.csv}}\n")
    assert load_config(folder / "c.yaml").recipe.data.source == "data/x.csv"
    monkeypatch.chdir(tmp_path / "data")
    (tmp_path / "data" / "x.csv").rename(tmp_path / "x.csv")
    (folder / "c.yaml").write_text("recipe: {data: {source: ../x.csv}}\n")
    assert load_config(folder / "c.yaml").recipe.data.source == "../x.csv"
    monkeypatch.chdir(folder.parent / "data")
    (folder / "y.csv").touch()
    (folder / "c.yaml").write_text("recipe: {data: {source: y.csv}}\n")
    assert load_config(folder / "c.yaml").recipe.data.source == str(folder / "y.csv")


def test_data_in_the_current_folder_come_first_and_missing_ones_keep_their_name(folder):
    (folder / "c.yaml").write_text(DATA)
    for path in (folder / "x.npy", Path("x.npy"), folder / "v.npy"):
        path.touch()
    assert data_paths(folder / "c.yaml") == ["x.npy", "y.npy", "experiments/v.npy"]


@pytest.mark.parametrize("source", ["digits", "s3://bucket/x.npy", "~/x.npy", "/x.npy"])
def test_names_that_are_no_relative_paths_are_left_alone(folder, source):
    (folder / "c.yaml").write_text(f"recipe: {{data: {{source: '{source}'}}}}\n")
    (folder / "digits").touch()
    assert load_config(folder / "c.yaml").recipe.data.source == source


def test_a_column_is_no_path(folder):
    (folder / "c.yaml").write_text("recipe: {data: {source: x.csv, target: label}}\n")
    (folder / "label").touch()
    assert load_config(folder / "c.yaml").recipe.data.target == "label"


def test_a_model_beside_the_configuration_is_named_with_what_to_do(folder):
    (folder / "c.yaml").write_text("recipe: {model: {function: 'unheard_of.part:build'}}\n")
    assert load_config(folder / "c.yaml").recipe.model.function == "unheard_of.part:build"
    (folder / "unheard_of").mkdir()
    (folder / "unheard_of" / "__init__.py").touch()
    with pytest.raises(ConfigError, match=rf"unheard_of/__init__\.py' is not .*PYTHONPATH={folder}"):
        load_config(folder / "c.yaml")


def test_a_model_that_python_finds_is_left_alone(folder, monkeypatch):
    (folder / "c.yaml").write_text("recipe: {model: {function: 'heard_of:build'}}\n")
    (folder / "heard_of.py").touch()
    monkeypatch.syspath_prepend(os.fspath(folder))
    assert load_config(folder / "c.yaml").recipe.model.function == "heard_of:build"


def test_a_configuration_of_a_newer_version_is_told_in_one_sentence(folder):
    (folder / "c.yaml").write_text("written_by: {distbp: '9.8', format: 99}\nrecipe: {wings: 2}\n")
    with pytest.raises(ConfigError, match=r"was written by distbp 9\.8 \(format 99\); this is version"):
        load_config(folder / "c.yaml")


@pytest.mark.parametrize("batch_size", [1, 7, 8, 9, 64, 100, 1000, 4097])
def test_microbatches_are_chosen_by_one_rule_that_gives_every_recipe_the_size_it_always_had(batch_size):
    in_8 = -(-batch_size // 8)
    assert Recipe(global_batch_size=batch_size).microbatch_size == in_8
    assert Recipe(global_batch_size=batch_size, microbatch_size="auto").microbatch_size == in_8
    assert with_batch(Recipe(), batch_size, 0.1, 0.9).microbatch_size == min(batch_size, 256)
    assert choose_microbatch(batch_size, 6) == min(batch_size, max(16, -(-batch_size // 6)))


def test_a_batch_size_that_is_refused_is_told_of_alone():
    with pytest.raises(ConfigError) as caught:
        parse_config({"recipe": {"global_batch_size": 0}})
    assert "microbatch_size" not in str(caught.value)


def test_configuration_that_is_a_link_to_nothing_is_not_advised_as_its_own_neighbour(tmp_path):
    (tmp_path / "c.yaml").symlink_to("gone.yaml")
    with pytest.raises(ConfigError, match=r"c\.yaml': No such file or directory; check the path"):
        load_config(tmp_path / "c.yaml")
