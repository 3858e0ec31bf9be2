"""Reads a Dockerfile, and does the steps of a stage in a plain folder that stands for the image's root."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """One FROM and what follows: (keyword, text) pairs, continuation lines joined and comments left out."""

    base: str
    name: str | None
    steps: list[tuple[str, str]] = field(default_factory=list)


def read_stages(path: Path) -> list[Stage]:
    """Return the stages of a Dockerfile."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    stages: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        keyword, text = line.split(maxsplit=1)
        if keyword == "FROM":
            base, _, name = text.partition(" AS ")
            stages.append(Stage(base, name or None))
        else:
            stages[-1].steps.append((keyword, text))
    return stages


def do_steps(stage: Stage, context: Path, root: Path, timeout_s: float) -> None:
    """Do WORKDIR, COPY and RUN of a stage with `root` in the place of / for the folders that it makes."""
    here = root
    for keyword, text in stage.steps:
        if keyword == "WORKDIR":
            here = root / text.lstrip("/")
            here.mkdir(parents=True, exist_ok=True)
        elif keyword == "COPY":
            *sources, target = shlex.split(text)
            _copy([context / source for source in sources], here / target, is_folder=target.endswith("/"))
        elif keyword == "RUN":
            command = re.sub(r"(?<![\w.])/opt/", f"{root}/opt/", text)
            subprocess.run(["sh", "-ec", command], cwd=here, check=True, timeout=timeout_s, env=_clean(os.environ))
        else:
            raise AssertionError(f"a stage that is done here has no {keyword}")


def _copy(sources: list[Path], target: Path, is_folder: bool) -> None:
    for source in sources:
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target / source.name if is_folder else target)


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which no virtual environment is active and Python is the one the stage starts from."""
    return {key: value for key, value in environment.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
