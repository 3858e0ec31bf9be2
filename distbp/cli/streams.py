"""The standard streams, made safe for what may be at their other end: a closed pipe, a full disk, an ASCII terminal."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from distbp.errors import StorageError


def prepare_streams() -> None:
    """Open closed streams, replace characters that a stream cannot show, and name a stream that is full."""
    _fill_descriptors()
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 - for the whole process
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - the same
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - the same
    elif type(sys.stdout) is io.TextIOWrapper:
        with suppress(OSError):
            sys.stdout.flush()
        sys.stdout = _Output(
            sys.stdout.buffer, sys.stdout.encoding, errors="replace", line_buffering=sys.stdout.line_buffering
        )


def abandon_stdout() -> None:
    """Point stdout at /dev/null, so that Python's own flush at exit does not fail."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Output(io.TextIOWrapper):
    """Standard output. What it cannot take is a StorageError; BrokenPipeError stays what it is."""

    def write(self, text: str) -> int:
        """Write text."""
        with _translated():
            return super().write(text)

    def flush(self) -> None:
        """Write what is buffered."""
        with _translated():
            super().flush()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(
            f"cannot write the output: {error.strerror or error}; what the command did is done, so send its output "
            "elsewhere and give it again"
        ) from None


def _fill_descriptors() -> None:
    """Open /dev/null where 0, 1 or 2 is closed: the next file to be opened would get that number, and its output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
