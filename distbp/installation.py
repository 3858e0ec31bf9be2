"""What of distbp is on this machine: its version, also where it travelled with a job, and what it lacks."""

from __future__ import annotations

import sys
from pathlib import Path

VERSION = "0.1.0"


def describe_version() -> str:
    """Return the version and where its code lies, as in `distbp 0.1.0 (/opt/app/distbp)`."""
    return f"distbp {VERSION} ({Path(__file__).resolve().parent})"


def describe_missing(missing: ModuleNotFoundError) -> str:
    """Return what to do about a library that distbp needs and this Python does not have."""
    return (
        f"{sys.executable} has no module '{missing.name}', which distbp needs; install distbp on every node of the "
        "cluster (deploy/Dockerfile does), or let distbp submit --install do it for this job"
    )
