"""A bucket on a host of its own, and how many bytes reach each node of a cluster that trains on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command_line import make_argv
from hosts import INTERFACE, Host
from ray_hosts import RayOnHosts

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
PORT = 9000
BUCKET = "s3://bucket/data"
SERVE = f"""
import sys, threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(sys.argv[1], {PORT}, verbose=False)
server.start()
print("ready", flush=True)
threading.Event().wait()
"""
UPLOAD = f"""
import sys, s3fs
storage = s3fs.S3FileSystem()
storage.mkdir("bucket")
storage.put(sys.argv[1] + "/", "{BUCKET}/", recursive=True)
"""
TIMEOUT_S = 240.0
QUIET: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}


class Bucket:
    """moto's S3 on a host; `close` ends it. variables: with which others reach it."""

    def __init__(self, host: Host, folder: Path):
        """Start it, with the files of a folder at BUCKET."""
        self.host = host
        self.variables = {**KEYS, "AWS_ENDPOINT_URL": f"http://{host.ip}:{PORT}"}
        self._server = host.popen([sys.executable, "-c", SERVE, host.ip], **QUIET)
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == "ready\n"
        done = host.run(
            [sys.executable, "-c", UPLOAD, str(folder)], timeout_s=TIMEOUT_S, env={**os.environ, **self.variables}
        )
        assert done.returncode == 0, done.stderr

    def close(self) -> None:
        """End the server."""
        self._server.kill()
        self._server.communicate()


@dataclass(frozen=True)
class Reading:
    """What a run was. received: bytes that reached each host meanwhile, over its network card."""

    result: dict[str, Any]
    received: tuple[int, ...]


def train_and_count(cluster: RayOnHosts, hosts: Sequence[Host], config: Path, recipe: Any, placement: Any) -> Reading:
    """Train on the cluster, with the first host as driver."""
    where = {"backend": "ray", "workers": len(hosts), "address": cluster.address, "cache": "0B", **placement}
    config.write_text(json.dumps({"recipe": recipe, "placement": where}))
    before = [count_received(host) for host in hosts]
    done = hosts[0].run(make_argv("train", config, "--json"), timeout_s=TIMEOUT_S, env=cluster.environment)
    assert done.returncode == 0, done.stderr
    after = [count_received(host) for host in hosts]
    return Reading(json.loads(done.stdout), tuple(b - a for a, b in zip(before, after, strict=True)))


def count_received(host: Host) -> int:
    """Return how many bytes have come in over a host's network card."""
    lines = host.run(["cat", "/proc/net/dev"], timeout_s=30).stdout.splitlines()
    return next(int(line.split(":")[1].split()[0]) for line in lines if line.strip().startswith(f"{INTERFACE}:"))
