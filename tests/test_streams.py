"""The end of a good command does not depend on who reads its output: nobody, a full disk, or a terminal of ASCII."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from distbp.__main__ import main

DEADLINE_S = 120
FAST = "--set epochs=1 --set model.hidden=[4] --set data.source=k.csv --workers 1"
COMMANDS = {
    "train": f"train {FAST} --storage again",
    "train json": f"train {FAST} --storage again --json",
    "evaluate": "evaluate runs/r",
    "evaluate json": "evaluate runs/r --json",
    "predict": "predict runs/r --data k.csv --out p.csv",
    "explain": "explain runs/r",
    "version": "--version",
    "help": "--help",
}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with k.csv, whose labels are not ASCII, and the run runs/r."""
    folder = tmp_path_factory.mktemp("streams")
    rows = [f"{i * 0.1:.1f},{i % 7},{('Käse', 'Brot', 'Öl 日本')[i % 3]}" for i in range(90)]
    (folder / "k.csv").write_text("\n".join(["a,b,label", *rows]) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", sys.path[:])
        assert main(["train", "--set", "epochs=1", "--set", "data.source=k.csv", "--workers", "1", "--name", "r"]) == 0
    return folder


def run(folder: Path, command: str, redirection: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    """Run a command in a shell with its streams redirected and in this encoding."""
    line = f"PYTHONIOENCODING={encoding} {sys.executable} -m distbp {COMMANDS[command]} {redirection}"
    return subprocess.run(
        ["sh", "-c", line], cwd=folder, capture_output=True, encoding=encoding, timeout=DEADLINE_S, check=False
    )


@pytest.mark.parametrize("redirection", [">&-", "<&- >&- 2>&-", "2>/dev/full"])
@pytest.mark.parametrize("command", ["train", "evaluate json", "predict", "help"])
def test_a_closed_stream_changes_nothing(folder, command, redirection):
    done = run(folder, command, redirection)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if command == "predict":
        assert (folder / "p.csv").read_text(encoding="utf-8").count("\n") == 91


@pytest.mark.parametrize("command", ["train json", "evaluate", "predict", "version", "help"])
def test_a_full_disk_is_one_sentence(folder, command):
    done = run(folder, command, ">/dev/full")
    assert done.returncode == 4
    assert done.stderr.count("cannot write the output: No space left on device") == 1
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("command", ["evaluate", "evaluate json", "explain"])
def test_characters_that_a_stream_does_not_have_are_replaced(folder, command, encoding):
    done = run(folder, command, "", encoding)
    assert done.returncode == 0, done.stderr
    if command == "evaluate json":
        assert [each["label"] for each in json.loads(done.stdout)["classes"]] == ["Brot", "Käse", "Öl 日本"]


def test_a_reader_who_leaves_is_no_error(folder):
    done = run(folder, "explain", "| true")
    assert (done.returncode, done.stderr) == (0, "")
