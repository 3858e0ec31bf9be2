"""The keys of a terminal, one by one, and the signals that matter to a program with a screen of its own.

Signals only leave a note here: whoever asks for input acts on it, so that nothing is interrupted in the middle.
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_NAMES = {b"A": "up", b"B": "down", b"C": "right", b"D": "left", b"Z": "left"}
_KEY = re.compile(rb"\x1b[\[O]([0-9;]*)([A-Za-z~])|\x1b|[\x00-\x7f]|[\x80-\xff]+")
_NOTED = (signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGWINCH)


class Keyboard:
    """Use it with `with`: keys come without Enter and unseen, and the terminal is as it was afterwards.

    signals: that came since the last look, to be cleared by whoever acted on them.
    """

    def __init__(self) -> None:
        self._input = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self.signals: list[int] = []

    def __enter__(self) -> Keyboard:
        self._wake_in, self._wake_out = os.pipe()
        self._handlers: dict[int, Any] = {number: signal.signal(number, self._note) for number in _NOTED}
        self._settings = None if self._input is None else termios.tcgetattr(self._input)
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._wake_in)
        os.close(self._wake_out)

    def wait(self, timeout_s: float) -> list[str]:
        """Return the keys pressed, at once if there are any or a signal came, else [] after `timeout_s`.

        A key is its character or up, down, left, right.
        """
        sources = [self._wake_in] if self._input is None else [self._wake_in, self._input]
        ready, _, _ = select.select(sources, [], [], timeout_s)
        if self._wake_in in ready:
            os.read(self._wake_in, 1024)
        return self._read() if self._input is not None and self._input in ready else []

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Give the terminal back for as long as the block takes."""
        self._restore()
        try:
            yield
        finally:
            self._listen()

    def _read(self) -> list[str]:
        with suppress(OSError):
            content = os.read(self._input or 0, 1024)
            if content:
                return list(parse_keys(content))
        self._input = None  # the terminal is gone
        return []

    def _listen(self) -> None:
        if self._input is not None:
            tty.setcbreak(self._input, termios.TCSADRAIN)

    def _restore(self) -> None:
        if self._settings is not None:
            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._settings)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signals.append(number)
        os.write(self._wake_out, b"!")


def parse_keys(content: bytes) -> Iterator[str]:
    """Yield the keys that a terminal sent; unknown ones are left out."""
    for match in _KEY.finditer(content):
        if match[2] is not None:
            name = _NAMES.get(match[2])
            if name is not None:
                yield name
        elif match[0] == b"\t":
            yield "right"
        elif match[0].isascii() and match[0].decode().isprintable():
            yield match[0].decode()
