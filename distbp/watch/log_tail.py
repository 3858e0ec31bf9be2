"""What is new in a log, on any storage: each line is read once, and a long log is never read whole.

A log may be truncated or replaced (a resumed run removes the steps it will do again; object stores rewrite the whole
file). What stood before the place we know is read again with every look, and compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from distbp.run.storage.folder import Folder

WHOLE_BYTES = 4 << 20
"""Up to so many new bytes are read, some 18,000 steps. Of more, the ends and samples in between are."""
END_BYTES = 256 << 10
SAMPLE_BYTES = 4 << 10
NUM_SAMPLES = 96
WITNESS_BYTES = 256
"""How much before the known place is compared: more than a line, and each line has its own checksum or time."""


@dataclass(frozen=True)
class News:
    """Whole lines that are new. is_restart: the log is not the one that was read before, forget what it told."""

    lines: tuple[bytes, ...]
    is_restart: bool = False


class LogTail:
    """Reads one log of a run on and on."""

    def __init__(self, folder: Folder, name: str):
        self._folder = folder
        self._name = name
        self._forget()

    def read(self) -> News:
        """Return what is new since the last call. Raises StorageError; the next call then tries the same again."""
        size = self._folder.size_bytes(self._name) or 0
        if size == self._size:
            return News(())
        lines = self._take(size) if size >= self._offset else None
        if lines is not None:
            return News(tuple(lines))
        self._forget()
        return News(tuple(self._take(size) or ()), is_restart=True)

    def _forget(self) -> None:
        self._offset = 0  # up to here, after a newline, everything was taken in
        self._size = 0  # of the file at the last look: a torn line may follow the offset
        self._witness = b""  # the bytes before the offset

    def _take(self, size: int) -> list[bytes] | None:
        """Return the new lines of a log of `size` bytes, or some of them; None if it is not the one we know."""
        begin = self._offset - len(self._witness)
        is_short = size - begin <= WHOLE_BYTES
        content = self._part(begin, size if is_short else begin + END_BYTES)
        if not content.startswith(self._witness):
            return None
        lines, end = _cut(self._offset, content[len(self._witness) :])
        if not is_short:
            lines += self._take_samples(begin + END_BYTES, size - END_BYTES)
            begin = size - END_BYTES
            content = self._part(begin, size)
            skipped = content.find(b"\n") + 1
            last, end = _cut(begin + skipped, content[skipped:])
            lines += last
        self._witness = content[: end - begin][-WITNESS_BYTES:]
        self._offset, self._size = end, size
        return lines

    def _take_samples(self, start: int, stop: int) -> list[bytes]:
        """Return the whole lines inside short parts that lie evenly between two places."""
        lines: list[bytes] = []
        for number in range(NUM_SAMPLES):
            place = start + number * (stop - start) // NUM_SAMPLES
            content = self._part(place, place + SAMPLE_BYTES)
            lines += _cut(0, content[content.find(b"\n") + 1 :])[0]
        return lines

    def _part(self, start: int, stop: int) -> bytes:
        return self._folder.read_range(self._name, start, stop) or b"" if stop > start else b""


def _cut(start: int, content: bytes) -> tuple[list[bytes], int]:
    """Return the whole lines of a part that begins with a line, and the place behind the last one."""
    length = content.rfind(b"\n") + 1
    return content[:length].split(b"\n")[:-1], start + length
