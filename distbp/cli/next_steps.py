"""What to type next, with the arguments of the command that was typed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from distbp.text.masking import mask_secrets

if TYPE_CHECKING:
    from distbp.training import Result


def format_resume_command(argv: Sequence[str]) -> str:
    """Return the command that continues the run which `argv` started: the same one, unless it insists on a new run."""
    return shlex.join(["distbp", *_without_options(argv, "--resume")])


def format_next_steps(result: Result, source: str, argv: Sequence[str]) -> Text:
    """Return commands that use the run which `argv` trained, and that check it against one with more workers.

    source: the run's own data.
    """
    suffix = f"-w{result.workers + 1}"
    name = result.run.rstrip("/").rpartition("/")[2] + suffix
    again = _without_options(argv, "--resume", "--name", "--workers")
    commands = [
        ["evaluate", result.run],
        ["predict", result.run, "--data", source, "--out", "predictions.csv"],
        [*(word for word in again if word != "--json"), "--workers", str(result.workers + 1), "--name", name],
        ["verify", result.run, result.run + suffix],
    ]
    lines = (f"  {shlex.join(['distbp', *command])}" for command in commands)
    return Text(mask_secrets("\n".join(["next:", *lines])), "dim")


def _without_options(argv: Sequence[str], *options: str) -> Iterator[str]:
    """Yield `argv` without these options and their values, written as two words or with an equals sign."""
    words = iter(argv)
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in options:
            yield word
        elif not equals:
            next(words, None)
