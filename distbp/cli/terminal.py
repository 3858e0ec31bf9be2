"""Where things for people and the one JSON document go, and what surrounds every command.

Notes (progress, log messages, errors) go to stderr; results to stdout, or to stderr too when stdout carries JSON.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, overload

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from distbp.cli.failures import Failure, explain
from distbp.errors import StorageError
from distbp.text.printable import printable


class Terminal:
    """The two streams of one command. as_json: stdout carries one JSON document and nothing else."""

    def __init__(self, as_json: bool):
        self.as_json = as_json
        self.notes = _Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._results = self.notes if as_json else _Console(highlight=False, markup=False, emoji=False)

    def show(self, *results: RenderableType) -> None:
        """Print a result for people; text is shown as it is, with control characters written out."""
        with suppress(OSError) if self.as_json else nullcontext():  # then they are notes
            for result in results:
                self._results.print(_to_shown(result), soft_wrap=True)

    def note(self, text: str, style: str = "") -> None:
        """Print one line beside the results; a closed stderr is no error."""
        with suppress(OSError):
            self.notes.print(Text(_to_shown(text), style), soft_wrap=True)

    def document(self, values: Mapping[str, Any]) -> None:
        """Print the JSON document if one is asked for."""
        if self.as_json:
            text = json.dumps(_to_json(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            try:
                text.encode(sys.stdout.encoding or "utf-8")
            except UnicodeEncodeError:
                text = json.dumps(_to_json(values), indent=2, allow_nan=False) + "\n"
            sys.stdout.write(text)
            sys.stdout.flush()

    def fail(self, failure: Failure, findings: Mapping[str, Any] | None = None) -> None:
        """Print the sentence of a failure; its document holds `findings` too."""
        text = Text.assemble(("Error: ", "bold red"), failure.message)
        if failure.is_stop:
            text = Text(failure.message[:1].upper() + failure.message[1:])
        with suppress(OSError):  # nobody reads stderr any more
            self.notes.print(text, soft_wrap=True)
        with suppress(OSError, StorageError):  # nor stdout, which may be the very failure
            self.document({**(findings or {}), "error": failure.to_json()})


@contextmanager
def open_terminal(as_json: bool, debug: bool) -> Iterator[Terminal]:
    """Yield the terminal of one command; an exception inside becomes one sentence and typer.Exit with its exit code.

    debug: show the traceback too, and the warnings of libraries.
    """
    terminal = Terminal(as_json)
    with _warnings_hidden(not debug), _log_shown(terminal):
        try:
            yield terminal
        except (typer.Exit, BrokenPipeError):
            raise
        except BaseException as error:
            if debug:
                traceback.print_exc()
            failure = explain(error)
            terminal.fail(failure)
            raise typer.Exit(failure.exit_code) from None


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the command decide, where Rich would end the process."""
        raise BrokenPipeError

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield segments in which only Rich's own control codes act on the terminal."""
        for segment in super().render(renderable, options):
            text = segment.text
            yield segment if segment.control or text.isprintable() else segment._replace(text=_to_shown(text))


class _LogLines(logging.Handler):
    """Prints log messages through the console, so that they appear above a progress bar."""

    def __init__(self, terminal: Terminal):
        super().__init__(logging.INFO)
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        is_warning = record.levelno >= logging.WARNING
        text = f"{record.levelname.capitalize()}: {record.getMessage()}" if is_warning else record.getMessage()
        try:
            self._terminal.note(text, "yellow" if is_warning else "")
        except OSError:  # nobody reads stderr any more; that must not end a training run
            logging.getLogger("distbp").removeHandler(self)


@contextmanager
def _log_shown(terminal: Terminal) -> Iterator[None]:
    logger, handler = logging.getLogger("distbp"), _LogLines(terminal)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def _warnings_hidden(hide: bool) -> Iterator[None]:
    with warnings.catch_warnings():
        if hide:
            warnings.simplefilter("ignore")
        yield


@overload
def _to_shown(result: str) -> str: ...
@overload
def _to_shown(result: RenderableType) -> RenderableType: ...
def _to_shown(result: RenderableType) -> RenderableType:
    return printable(result, keep="\n\t") if isinstance(result, str) else result


def _to_json(value: Any) -> Any:
    """Return JSON values; numbers that are not finite, which JSON does not have, become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _to_json(inner) for key, inner in value.items()}
    return [_to_json(inner) for inner in value] if isinstance(value, list | tuple) else value
