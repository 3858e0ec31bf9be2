"""A machine that gives Ray too little: the run works or ends with a sentence, and waits for nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from command_line import environment_without, make_argv

pytestmark = [pytest.mark.ray, pytest.mark.skipif(sys.platform != "linux", reason="sets limits of Linux")]

TIMEOUT_S = 100  # below the 120 s that a start of Ray may take
ENDINGS = {0: "", 7: "Error: cannot start Ray on this machine: "}


def train_on_ray(tmp_path, shell: str = "", **variables: str) -> tuple[int, str]:
    """Return exit code and last line of a short training. shell: what to do before."""
    argv = make_argv("train", "--backend", "ray", "--workers", "1", "--name", "r", "--set", "epochs=1")
    done = subprocess.run(
        ["sh", "-c", f'{shell}\nexec "$@"', "sh", *argv],
        env={**environment_without("RAY_ADDRESS"), **variables},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.returncode, (done.stderr.splitlines() or [""])[-1]


def test_few_open_files_are_enough_or_told(tmp_path):
    code, last = train_on_ray(tmp_path, "ulimit -n 64")
    assert code in ENDINGS, last
    assert last.startswith(ENDINGS[code]), last


def test_a_home_that_cannot_be_written_is_no_matter_or_told(tmp_path):
    code, last = train_on_ray(tmp_path, HOME="/proc")  # where not even root can
    assert code in ENDINGS, last
    assert last.startswith(ENDINGS[code]), last
