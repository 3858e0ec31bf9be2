"""A Ray head with its dashboard and token authentication, and distbp as people type it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command_line import run_distbp
from lifeline import ending_with_the_tests
from waiting import wait_until

START_TIMEOUT_S = 180  # on a loaded machine Ray takes more than a minute
TOKEN = "only-for-these-tests-0123456789abcdef"


@dataclass(frozen=True)
class Done:
    """What a command did. document: the JSON of stdout, None where it printed none."""

    code: int
    document: dict[str, Any] | None
    notes: str


@dataclass(frozen=True)
class Service:
    """A cluster that runs jobs, and the environment of a user who has its token. gcs: where drivers connect."""

    address: str
    gcs: str
    environment: dict[str, str]
    temp_dir: Path

    def distbp(
        self, *argv: object, timeout_s: float = 120, as_json: bool = True, cwd: Path | None = None, **variables: str
    ) -> Done:
        """Run a command of distbp to its end."""
        words = [*argv, *(["--json"] if as_json else [])]
        done = run_distbp(*words, cwd=cwd, env={**self.environment, **variables}, timeout_s=timeout_s)
        if as_json:
            return Done(done.returncode, json.loads(done.stdout), done.stderr)
        return Done(done.returncode, None, done.stdout + done.stderr)


def make_environment(temp_dir: Path, token: str | None = TOKEN) -> dict[str, str]:
    """Return the environment of Ray's and distbp's processes, without what this process has of Ray's."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    authentication = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"}
    return {
        **inherited,
        **authentication,
        "RAY_TMPDIR": str(temp_dir),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # nothing listens beyond loopback
        "RAY_worker_niceness": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def start_head(num_cpus: int = 2, token: str | None = TOKEN) -> Iterator[Service]:
    """Yield a one-node cluster on loopback; its processes and files are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="t", ignore_cleanup_errors=True) as temp_dir:
        environment, port, gcs_port = make_environment(Path(temp_dir), token), find_free_port(), find_free_port()
        options = [f"--port={gcs_port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}"]
        options += [f"--dashboard-agent-listen-port={find_free_port()}"]  # 52365 may be that of another head
        ray = Path(sys.executable).with_name("ray")
        with (Path(temp_dir) / "log").open("w") as log:
            head = subprocess.Popen(
                [ray, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--num-cpus={num_cpus}", *options],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        service = Service(f"http://127.0.0.1:{port}", f"127.0.0.1:{gcs_port}", environment, Path(temp_dir))
        with ending_with_the_tests(head, temp_dir):
            try:
                argv = ["list", "--address", service.address]
                wait_until(lambda: head.poll() is not None or service.distbp(*argv).code == 0)
                assert head.poll() is None, (Path(temp_dir) / "log").read_text()
                yield service
            finally:
                head.terminate()
                head.wait(30)
                kill_leftovers(Path(temp_dir))


def kill_leftovers(temp_dir: Path) -> None:
    """Kill the processes of this cluster that outlive its head for a moment: those that name its folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = f"{temp_dir}/".encode() in (process / "cmdline").read_bytes()
        except OSError:
            continue
        if is_ours and int(process.name) != os.getpid():
            os.kill(int(process.name), signal.SIGKILL)
