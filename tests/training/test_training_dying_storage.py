"""A driver may be killed between any two of its writes: the same command goes on, and nothing is left behind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("dying_driver.py")
DEADLINE_S = 600
FEWEST_WRITES = {"local": 35, "object_store": 14, "rescue": 12}


@pytest.fixture(scope="module", params=FEWEST_WRITES)
def story(request, tmp_path_factory) -> dict[str, Any]:
    """What came of an undisturbed driver (`calm`), of each killed one (`deaths`), and of the first that was not."""
    folder = tmp_path_factory.mktemp("dying")
    command = [sys.executable, str(PROGRAM), request.param, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    calm, *deaths, survivor = map(json.loads, done.stdout.splitlines())
    assert len(deaths) >= FEWEST_WRITES[request.param]
    return {"kind": request.param, "calm": calm, "deaths": deaths, "survived": survivor["survived"]}


def without_salt(files: list[str]) -> list[str]:
    return sorted(re.sub(r"state-[0-9a-f]{8}", "state", name) for name in files)


def is_sentence(said: Any) -> bool:
    return isinstance(said, dict) and said.get("exit_code") == 4 and "\n" not in said["message"]


def test_the_same_command_ends_with_the_same_bytes_whichever_write_was_the_last(story):
    assert "digest" in story["calm"]["end"]
    assert is_sentence(story["survived"]) if story["kind"] == "rescue" else story["survived"] == story["calm"]["end"]
    for death in story["deaths"]:
        assert death["again"] == story["calm"]["end"], death["left"]
        assert death["logged"] == sorted(set(death["logged"])), death["left"]


def test_nothing_of_a_killed_driver_is_left_when_the_run_has_ended(story):
    for death in story["deaths"]:
        assert without_salt(death["files"]) == without_salt(story["calm"]["files"]), death["left"]


def test_a_folder_is_a_run_for_every_command_or_for_none(story):
    for death in story["deaths"]:
        is_run = "runs/run/config.yaml" in death["left"]
        end = story["calm"]["end"]
        assert death["must"] == end if is_run else is_sentence(death["must"]), death["left"]
        assert is_sentence(death["never"]) if is_run else death["never"] == end, death["left"]
        assert len(death["look"]["list"]) == is_run, death["left"]


def test_every_command_that_reads_answers_in_a_sentence(story):
    for death in story["deaths"]:
        assert not any(run["state"] == "DAMAGED" for run in death["look"]["list"]), death
        for answer in death["look"].values():
            assert not isinstance(answer, dict) or is_sentence(answer), death


def test_what_was_rescued_is_the_run_or_makes_way_for_it(story):
    for death in story["deaths"]:
        assert all(end == story["calm"]["end"] for end in death["rescued"]), death
