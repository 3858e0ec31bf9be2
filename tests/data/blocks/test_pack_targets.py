"""A packed copy opens as its source did: `data pack` says how its targets are named."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from distbp.__main__ import main
from distbp.config import load_config
from distbp.data import prepare
from distbp.data.blocks.look import Question, look_at
from distbp.data.blocks.pack import choose_block_rows

pytestmark = pytest.mark.slow

NUM_ROWS = 40


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own-cache"))


def write(folder: Path, y: np.ndarray) -> str:
    folder.mkdir()
    np.savez(folder / "1.npz", x=np.arange(2 * len(y)).reshape(-1, 2), y=y)
    return str(folder)


def sort_rows(data: object) -> list[list[float]]:
    held = prepare(data, 0).train.hold()
    return sorted(np.hstack([held.x, held.y]).tolist())


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_what_pack_says_opens_the_copy_as_its_source(tmp_path, capfd, task):
    y = np.random.default_rng(0).integers(0, 5, (NUM_ROWS, 3))
    source, out = write(tmp_path / "in", y if task == "classification" else y / 2), str(tmp_path / "out")
    assert main(["data", "pack", source, out, "--task", task]) == 0
    words = shlex.split(capfd.readouterr().err.splitlines()[-1].partition(": ")[2])
    assert words[::2] == ["--set", "--set"]
    fixed = ["data.scaling=none", "data.validation=0.0"]
    copy = load_config(None, [f"data.source={out}", *fixed, *words[1::2]]).recipe.data
    first = load_config(None, [f"data.source={source}", *fixed, f"data.task={task}"]).recipe.data
    assert sort_rows(copy) == sort_rows(first)
    assert prepare(copy, 0).schema.target_shape == ((3,) if task == "classification" else ())


def test_names_that_a_shell_would_cut_are_quoted(tmp_path, capfd):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.csv").write_text("a,the price's \u20ac\n1,2.5\n2,3.5\n")
    out = str(tmp_path / "out")
    assert main(["data", "pack", str(tmp_path / "in"), out, "--target", "the price's \u20ac"]) == 0
    words = shlex.split(capfd.readouterr().err.splitlines()[-1].partition(": ")[2])
    copy = load_config(None, [f"data.source={out}", "data.validation=0.0", *words[1::2]]).recipe.data
    assert prepare(copy, 0).schema.target_names == ("the price's \u20ac",)


def test_a_target_that_is_found_by_its_name_needs_no_words(tmp_path, capfd):
    source = write(tmp_path / "in", np.arange(NUM_ROWS) % 2)
    assert main(["data", "pack", source, str(tmp_path / "out"), "--json"]) == 0
    printed = capfd.readouterr()
    assert "name its targets" not in printed.err
    found = json.loads(printed.out)
    assert (found["targets"], found["task"]) == (["y"], "classification")


def test_all_targets_of_a_row_count_in_the_size_of_a_block(tmp_path):
    source = write(tmp_path / "in", np.tile(np.arange(20_000), (300, 1)))
    look = look_at(Question(source, task="classification"))
    assert choose_block_rows(look) == (1 << 25) // (2 * 8 + 20_000 * 8)
