"""A real MLflow tracking server on loopback, in processes of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

START_TIMEOUT_S = 120.0
OWN_FOLDER = Path(__file__).parents[2] / ".mlflow"
"""A virtual environment with all of MLflow, whose server needs packages that would change those of distbp."""

MANNERS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its store of jobs is left behind in /dev/shm
}


def find_python() -> str | None:
    """Return a Python that has MLflow's server, None if there is none."""
    if find_spec("mlflow") is not None and find_spec("flask") is not None and find_spec("alembic") is not None:
        return sys.executable
    program = OWN_FOLDER / "bin" / "mlflow"
    return str(program.with_name("python")) if program.exists() else None


@contextmanager
def start_server(folder: Path) -> Iterator[str]:
    """Yield the URL of a server that keeps everything in `folder`; its process group is killed at the end."""
    python = find_python()
    if python is None:
        pytest.skip("needs MLflow's server: python3 -m venv .mlflow && .mlflow/bin/pip install mlflow")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        f"{folder}/artifacts",
    ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=folder,
            env={**os.environ, **MANNERS},
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _await_health(url, process, folder / "server.log")
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await_health(url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    pytest.fail(f"MLflow's server did not start within {START_TIMEOUT_S:.0f} s: {log.read_text()[-500:]}")
