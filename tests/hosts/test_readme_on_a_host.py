"""The README's way to a cluster, typed word for word on a host of its own."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from hosts import make_hosts

pytestmark = pytest.mark.ray

README = Path(__file__).parents[2] / "README.md"


def read_block(marker: str) -> str:
    """Return the commands below `<!-- marker -->`."""
    [block] = re.findall(rf"<!-- {marker} -->\n```sh\n(.*?)```", README.read_text(), flags=re.DOTALL)
    return block


def test_three_ways_in_end_with_the_same_digest(tmp_path):
    commands = read_block("cluster").replace("/shared/runs", str(tmp_path / "shared"))
    first = (
        "distbp train --name one\ndistbp train --name two --backend ray --workers 3\ndistbp verify runs/one runs/two\n"
    )
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment = {
        **inherited,
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_TMPDIR": "/dev/shm",  # of this host, and gone with it
    }
    with make_hosts(1) as [host]:
        script = f"cd {tmp_path}\n{first}{commands}"
        done = host.run(["bash", "-euo", "pipefail", "-c", script], timeout_s=200, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "runs/one and runs/two end with the same bytes" in done.stdout
    assert f"runs/one and {tmp_path}/shared/three end with the same bytes" in done.stdout
