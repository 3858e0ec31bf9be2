"""What of distbp is on this machine: its version, also where it travelled with a job, and what it lacks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from distbp.errors import ConfigError

VERSION = "0.2.0.dev0"
FORMAT = 2
"""Of the files in the folder of a run or a study; 0.1.0 wrote format 1.

It is raised by each version that writes what the ones before would misread, such as another field of the recipe.
"""

EXTRAS = {
    "jinja2": "pages",
    "matplotlib": "pages",
    "mlflow": "mlflow",
    "onnx": "onnx",
    "onnxscript": "onnx-torch",
    "pyarrow": "tables",
    "sklearn": "sklearn",
    "tensorboardX": "tensorboard",
}
"""Libraries that training from arrays does without, and the extra of distbp that installs each."""


def need(what: str, *modules: str) -> None:
    """Raise ConfigError unless `modules`, each of an extra, can be imported. what: needs them, such as "a page"."""
    for module in modules:
        try:
            import_module(module)
        except ModuleNotFoundError as missing:
            raise ConfigError(
                f"{what} needs {missing.name}, which {sys.executable} does not have; "
                f"pip install 'distbp[{EXTRAS[module]}]', or '.[{EXTRAS[module]}]' in a checkout"
            ) from None


def describe_version() -> str:
    """Return the version and where its code lies, as in `distbp 0.2.0 (/opt/app/distbp)`."""
    return f"distbp {VERSION} ({Path(__file__).resolve().parent})"


def describe_writer() -> dict[str, Any]:
    """Return what every file says of who wrote it: {"distbp": version, "format": number}."""
    return {"distbp": VERSION, "format": FORMAT}


def describe_newer(what: str, written_by: object) -> str | None:
    """Return the sentence about a file that a newer distbp wrote, None if this one can read it.

    what: names the file, in quotes. written_by: what `describe_writer` gave, None in files of 0.1.0.
    """
    values = written_by if isinstance(written_by, Mapping) else {}
    number = values.get("format", 1)
    if isinstance(number, int) and number <= FORMAT:
        return None
    return (
        f"{what} was written by distbp {values.get('distbp', '?')!s:.40} (format {number!s:.40}); this is version "
        f"{VERSION}, which reads formats up to {FORMAT}; install a newer distbp"
    )


def describe_missing(missing: ModuleNotFoundError) -> str:
    """Return what to do about a library that distbp needs and this Python does not have."""
    return (
        f"{sys.executable} has no module '{missing.name}', which distbp needs; install distbp on every node of the "
        "cluster (deploy/Dockerfile does), or let distbp submit --install do it for this job"
    )
