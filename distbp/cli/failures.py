"""From an exception to what the user is told: one sentence, a kind and an exit code. Pure; reads tracebacks.

The exit codes are those of distbp.errors; a mistake in the command line counts as configuration.
"""

from __future__ import annotations

import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from typer import TyperException

from distbp.errors import ConfigError, DistbpError, TerminatedRunError
from distbp.installation import describe_missing
from distbp.machine.signals import Terminated
from distbp.text.sentences import find_near

PACKAGE_DIR = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Failure:
    """What went wrong, for people and for programs."""

    kind: str
    message: str
    exit_code: int

    @property
    def is_stop(self) -> bool:
        """Whether a signal ended the command, which is nobody's mistake."""
        return self.exit_code > 128

    def to_json(self) -> dict[str, Any]:
        """Return the value of "error" in a JSON document."""
        return asdict(self)


def explain(error: BaseException) -> Failure:
    """Return what to tell about any exception that ends a command."""
    if isinstance(error, DistbpError):
        return Failure(type(error).__name__, _one_line(str(error)), error.exit_code)
    if isinstance(error, TyperException):
        return Failure(ConfigError.__name__, _one_line(_explain_usage(error)), ConfigError.exit_code)
    if isinstance(error, Terminated):
        return Failure(
            TerminatedRunError.__name__,
            f"stopped by {error} before it was done; the same command starts again",
            TerminatedRunError.exit_code,
        )
    if isinstance(error, KeyboardInterrupt):
        return Failure("KeyboardInterrupt", "interrupted", 130)
    if isinstance(error, MemoryError):
        reason = _one_line(str(error)) or "the machine has none left"
        return Failure("MemoryError", f"not enough memory: {reason}; use a smaller model, batch or data", 1)
    return Failure(type(error).__name__, _explain_unexpected(error), 1)


def _explain_unexpected(error: BaseException) -> str:
    what = f"{type(error).__name__}: {_one_line(str(error))}".rstrip(": ")
    place = _find_users_code(error.__traceback__)
    if isinstance(error, ModuleNotFoundError) and place is None:
        return describe_missing(error)
    if place is not None:
        return f"{what}, raised in {place}; correct it there, or run again with --debug to see the traceback"
    return f"{what}; this is a defect of distbp, run again with --debug to see where"


def _find_users_code(trace: TracebackType | None) -> str | None:
    """Return the innermost place in the user's own code: outside distbp, Python and installed packages."""
    ours = (str(PACKAGE_DIR), sys.prefix, sys.base_prefix)
    for frame in reversed(traceback.extract_tb(trace)):
        path = Path(frame.filename)  # of compiled libraries a name that is no file here, such as pyarrow/io.pxi
        is_installed = frame.filename.startswith(ours) or "site-packages" in path.parts or not path.is_file()
        if not is_installed and path.stem != "distbp":
            return f"'{frame.filename}', line {frame.lineno}"
    return None


def _explain_usage(error: TyperException) -> str:
    """Return what Typer found as a sentence that ends in what to type."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "distbp"
    advice = f"see {command} --help"
    option = getattr(error, "option_name", "")
    if context is not None and option.startswith("--") and error.format_message().startswith("No such option"):
        return f"{command} has no option {option}; {_suggest_option(option, context.command, command) or advice}"
    text = _lower(error.format_message()).replace("Value error, ", "").rstrip(".")
    fact, has_suggestion, suggestion = text.partition(". Did you mean ")
    return f"{fact}; did you mean {suggestion}" if has_suggestion else f"{text}; {advice}"


def _suggest_option(option: str, command: Any, path: str) -> str | None:
    """Return the option or command that may have been meant. command: Typer's object; a group has `commands`."""
    below = getattr(command, "commands", {})
    if any(option in _list_options(inner) for inner in below.values()):
        return f"it goes after the command, such as {path} {next(iter(below))} {option}"
    if path.split()[-1] in ("train", "config"):
        from distbp.config import find_fields

        fields = find_fields(option.lstrip("-").replace("-", "_"))
        if fields:
            return f"set it with --set {fields[0]}=VALUE"
    near = find_near(option, [*_list_options(command), "--help"])
    return f"did you mean {near}?" if near else None


def _list_options(command: Any) -> list[str]:
    return [name for parameter in command.params for name in parameter.opts]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _one_line(text: str) -> str:
    return " ".join(text.split())
