"""`distbp doctor` as its users meet it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from distbp.__main__ import main

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def topics(document: dict) -> dict[str, str]:
    return {finding["topic"]: finding["level"] for finding in document["findings"]}


def test_one_process_is_examined_and_nothing_is_left(here, capfd):
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["usable"], document["exit_code"]) == (True, 0)
    assert {"run", "this process", "BLAS", "storage", "cores", "memory"} <= topics(document).keys()
    assert all(finding["fact"] and (finding["advice"] or finding["level"] == "ok") for finding in document["findings"])
    assert list(here.iterdir()) == []


def test_findings_are_shown_with_what_to_do(capfd):
    assert main(["doctor", "--workers", "500"]) == 0
    out = capfd.readouterr().out
    assert f"warning  cores: 500 workers on {len(os.sched_getaffinity(0))} core" in out
    assert "         -> use at most workers=" in out


def test_storage_that_cannot_be_written_gives_the_exit_code_of_a_run(here, capfd):
    (here / "runs").write_text("a file")
    assert main(["doctor"]) == main(["train"]) == 4
    assert "problem  storage: cannot write 'runs" in capfd.readouterr().out
    assert [path.name for path in here.iterdir()] == ["runs"]


@pytest.mark.parametrize(
    ("words", "exit_code", "fragment"),
    [
        (["--storage", "nope://x"], 4, "nope:// is no known kind of storage"),
        (["--address", "127.0.0.1:1"], 7, "cannot reach the Ray cluster at '127.0.0.1:1'"),
        (["--set", "data.source=gone.csv"], 3, "'gone.csv'"),
        (["--workers", "two"], 2, "placement.workers"),
        (["--set", "rounds.steps=5000"], 2, "rounds.steps=5000 is more than the"),
        (["gone.yaml"], 2, "'gone.yaml'"),
    ],
)
def test_what_blocks_a_run_gives_its_exit_code(words, exit_code, fragment, capfd):
    assert main(["doctor", *words]) == exit_code
    captured = capfd.readouterr()
    assert fragment in captured.out + captured.err
    assert "Traceback" not in captured.err


def test_storage_in_use_is_left_as_it_was(here):
    (here / "runs" / "mine").mkdir(parents=True)
    assert main(["doctor"]) == 0
    assert [str(path.relative_to(here)) for path in sorted(here.rglob("*"))] == ["runs", "runs/mine"]


def test_object_stores_are_tried_too(faults, capfd):
    assert main(["doctor", "--storage", "faulty://bucket/runs"]) == 0
    assert "'faulty://bucket/runs' can be written, read and removed" in capfd.readouterr().out
    assert any(method == "pipe_file" for method, _ in faults.calls)
    faults.refuse(ConnectionError("gone"), ("pipe_file",))
    assert main(["doctor", "--storage", "faulty://bucket/runs"]) == 4


@pytest.mark.ray
def test_a_private_ray_is_examined_and_ended(here, capfd):
    assert main(["doctor", "--backend", "ray", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert (
        dict.fromkeys(("cluster", "versions", "numerics", "authentication"), "ok").items() <= topics(document).items()
    )
    assert list(here.iterdir()) == []
