"""What a job printed: lines for people, and the JSON document of `distbp train --json` at the end. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

OPENING = "{"
"""A document begins with a line that holds this alone, and nothing is printed after it."""


def find_document(log: str) -> dict[str, Any] | None:
    """Return the JSON object that begins on the last line holding a lone brace, else None."""
    _, document = split_log(log)
    return document


def split_log(log: str) -> tuple[str, dict[str, Any] | None]:
    """Return a log's lines for people and its document; all of it is for people where there is no document."""
    start = log.rfind(f"\n{OPENING}\n") + 1
    if start == 0 and not log.startswith(f"{OPENING}\n"):
        return log, None
    try:
        document, _ = json.JSONDecoder().raw_decode(log[start:])
    except ValueError:
        return log, None
    return log[:start], document


class LogLines:
    """Shows a log that arrives in pieces: whole lines at once, a document never.

    After a reconnection the log arrives from its beginning; `restart` says so, and nothing is shown twice.
    """

    def __init__(self, show: Callable[[str], None]):
        self._show = show
        self._text = ""
        self._num_shown = 0
        self._num_received = 0

    def restart(self) -> None:
        """Expect the log from its beginning."""
        self._num_received = 0

    def add(self, piece: str) -> None:
        """Take the next piece and show what has become whole lines."""
        is_new = self._num_received + len(piece) - len(self._text)
        self._num_received += len(piece)
        if is_new <= 0:
            return
        self._text += piece[-is_new:]
        self._show_until(self._end_of_lines())

    def finish(self) -> str:
        """Show what was held back, unless it is a document; return all of the log."""
        lines, _ = split_log(self._text)
        self._show_until(len(lines))
        return self._text

    def _end_of_lines(self) -> int:
        """Return where the last whole line ends, or where a document may begin."""
        end = self._text.rfind("\n") + 1
        opening = self._text.find(f"\n{OPENING}\n", max(0, self._num_shown - 1), end)
        if self._text.startswith(f"{OPENING}\n"):
            return 0
        return end if opening < 0 else opening + 1

    def _show_until(self, end: int) -> None:
        if end > self._num_shown:
            self._show(self._text[self._num_shown : end].rstrip("\n"))
            self._num_shown = end
