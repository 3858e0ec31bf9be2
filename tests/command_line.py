"""Commands of distbp as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


def make_argv(*words: object) -> list[str]:
    """Return what starts `distbp` with these words in this Python."""
    return [sys.executable, "-m", "distbp", *map(str, words)]


def start_distbp(*words: object, cwd: Path | None = None, **options: Any) -> subprocess.Popen[str]:
    """Start a command whose texts can be read. options: those of Popen."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(make_argv(*words), cwd=cwd, text=True, **(pipes | options))


def run_distbp(
    *words: object, cwd: Path | None = None, timeout_s: float = 120, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever its exit code; killed if it takes longer than `timeout_s`."""
    return subprocess.run(
        make_argv(*words), cwd=cwd, env=env, timeout=timeout_s, capture_output=True, text=True, check=False
    )


def environment_without(*names: str) -> dict[str, str]:
    """Return the variables of this process but for some."""
    return {key: value for key, value in os.environ.items() if key not in names}


def hear_signals() -> None:
    """Let a new process hear what it ignores where the tests were started in the background of a shell."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
