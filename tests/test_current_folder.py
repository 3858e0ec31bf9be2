"""What lies in the folder that distbp is started in is data, not code: nothing there is imported by accident."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from distbp import Placement, Recipe, train

DEADLINE_S = 240
LOADED_BEFORE = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
HOSTILE = "import os\nwith open({marker!r}, 'a') as file: file.write(__name__ + '\\n')\nraise ImportError('hostile')\n"
OWN_MODEL = """
from distbp.config import Model
from distbp.nn.build import ModelSpec

def build(num_inputs, num_outputs):
    return ModelSpec(Model(hidden=[3]), num_inputs, num_outputs, True, "float32").build()
"""
FAST = ("--set", "epochs=1", "--set", "model.hidden=[4]", "--set", "global_batch_size=500", "--workers", "1")
STARTS = {"command": [str(Path(sys.executable).with_name("distbp"))], "module": [sys.executable, "-m", "distbp"]}
COMMANDS = {
    "config": ["config"],
    "train": ["train", *FAST, "--storage", "runs"],
    "drill": ["drill", *FAST, "--kill", "driver@2", "--storage", "runs"],
    "model": ["train", *FAST, "--storage", "runs", "--set", "model.function=nearby:build"],
    "ray": ["train", *FAST, "--storage", "runs", "--backend", "ray", "--set", "model.function=nearby:build"],
}
NEED_RAY = {"ray"}


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with a module for every name in the standard library and among what is installed, and one model."""
    folder = tmp_path / "h"
    folder.mkdir()
    text = HOSTILE.format(marker=str(tmp_path / "marker"))
    for name in list_importable() - list_loaded_by_python():
        (folder / f"{name}.py").write_text(text)
    (folder / "nearby.py").write_text(OWN_MODEL)
    return folder


def list_importable() -> set[str]:
    installed = {name for name in metadata.packages_distributions() if name.isidentifier()}
    optional = {"s3fs", "gcsfs", "tensorboardX", "opentelemetry"}  # an import of these is tried where they are not
    return (set(sys.stdlib_module_names) | installed | optional) - {"distbp", "nearby"}


def list_loaded_by_python() -> set[str]:
    """Return what Python itself imports for `python -m`, before distbp can do anything about it."""
    command = [sys.executable, "-c", f"import runpy, importlib.util, pkgutil; {LOADED_BEFORE}"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=[pytest.mark.ray] if name in NEED_RAY else []) for name in COMMANDS]
)
def test_no_module_of_the_current_folder_is_imported_unless_the_model_names_it(hostile, start, command):
    environment = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "PYTHONSAFEPATH")}
    process = subprocess.run(
        [*STARTS[start], *COMMANDS[command]],
        cwd=hostile,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    marker = hostile.parent / "marker"
    assert (marker.read_text() if marker.exists() else "") == ""
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
def test_an_empty_entry_of_pythonpath_lets_nothing_of_the_current_folder_in(hostile):
    environment = {**os.environ, "PYTHONPATH": f"{os.pathsep}{hostile.parent}"}
    command = [*STARTS["command"], "config"]
    # Python itself imports more than `python -m` does while it starts, so only what distbp imports is here.
    for path in set(hostile.glob("*.py")) - {hostile / f"{name}.py" for name in ("yaml", "pydantic", "queue", "numpy")}:
        path.unlink()
    process = subprocess.run(
        command, cwd=hostile, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert process.returncode == 0, process.stderr
    assert not (hostile.parent / "marker").exists()


def test_a_module_that_hides_behind_an_installed_one_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "queue.py").write_text(OWN_MODEL)
    recipe = Recipe.model_validate({"model": {"function": "queue:build"}})
    with pytest.raises(Exception, match=r"'queue' \(.*which comes before the file 'queue.py' here; rename that"):
        train(recipe, Placement(storage=str(tmp_path / "runs")))
