"""Opening files and reading their bytes: every foreign exception becomes a DataError here, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distbp.errors import DataError
from distbp.text.sentences import first_line, suggest

BLOCK_BYTES = 1 << 20
LARGEST_DEFLATE_RATIO = 1032  # no deflate stream grows more than this when it is unpacked
LONGEST_REASON = 200
_CONTROL_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@contextmanager
def reading(path: Path | str, expected: str) -> Iterator[None]:
    """Turn whatever goes wrong while `path` is read as `expected` into a DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # decoders of damaged bytes raise nearly every type there is
        raise DataError(_explain(error, path, expected)) from error


def as_source(data: object) -> str:
    """Return what names data on disk as text. Raises DataError for data themselves."""
    if isinstance(data, str | os.PathLike):
        return os.fsdecode(data)
    raise DataError(f"data is a {type(data).__name__}; expected a path, so save x and y in an .npz file and name that")


def to_path(source: str) -> Path:
    """Return the path that a user wrote, with `~` filled in."""
    try:
        return Path(source).expanduser()
    except RuntimeError:
        raise DataError(f"'{source}' begins with ~, and there is no such home folder; write the whole path") from None


def check_file(path: Path) -> None:
    """Raise DataError unless `path` is a regular file with something in it."""
    with reading(path, "data"):
        if path.is_symlink() and not path.exists():
            raise DataError(f"'{path}' is a link that leads to nothing ('{path.readlink()}'); name the file itself")
        if not path.exists():
            raise DataError(f"'{path}' does not exist" + (suggest(path.name, _siblings(path)) or "; check the path"))
        if path.is_dir():
            raise DataError(f"'{path}' is a directory; expected a file")
        if not path.is_file():
            raise DataError(f"'{path}' is a device or a pipe; expected a regular file")
        if path.stat().st_size == 0:
            raise DataError(f"'{path}' is an empty file (0 bytes); write it again")


def read_exactly(stream: BufferedIOBase, num_bytes: int, origin: str) -> NDArray[np.uint8]:
    """Return the `num_bytes` bytes that are left in `stream` as a (num_bytes,) array.

    Raises DataError when there are fewer or more.
    """
    check_memory(num_bytes, origin)
    buffer = np.empty(num_bytes, np.uint8)
    view = buffer.data
    done = 0
    while done < num_bytes:
        count = stream.readinto(view[done : done + BLOCK_BYTES])
        if not count:
            raise DataError(f"{origin} ends after {done} of the {num_bytes} bytes its header announces; fetch it again")
        done += count
    if stream.read(1):
        raise DataError(f"{origin} goes on after the {num_bytes} bytes its header announces; fetch it again")
    return buffer


def check_memory(num_bytes: int, origin: str) -> None:
    """Raise DataError where `num_bytes` are more than this process can have, before it tries."""
    available = find_available_memory()
    if available is not None and num_bytes > available:
        raise DataError(
            f"{origin} needs {num_bytes / 2**30:.2f} GiB of memory, and {available / 2**30:.2f} GiB are free; use a "
            "machine with more, a part of the data, or x.npy and y.npy, of which x stays on disk"
        )


def find_available_memory() -> int | None:
    """Return how many bytes are free on the machine, or allowed if that is less; None if that is not known."""
    found = []
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    for limit in _CONTROL_GROUPS:
        with suppress(OSError, ValueError):  # "max", or no such group
            found.append(int(Path(limit).read_text()))
    return min(found, default=None)


def list_names(names: Iterable[object], limit: int = 12) -> str:
    """Return names for a message, the first `limit` of them."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(map(repr, names[:limit])) or "nothing") + more


def _explain(error: Exception, path: Path | str, expected: str) -> str:
    if isinstance(error, OSError) and error.strerror:  # decoders raise OSError too, but without the system's words
        return f"cannot read '{path}' as {expected}: {error.strerror}; check the file and its permissions"
    if isinstance(error, MemoryError):
        return f"'{path}' needs more memory than there is; use a machine with more, or a part of the data"
    reason = first_line(error)[:LONGEST_REASON]
    return f"'{path}' is not {expected}, or a damaged one: {reason}; check it, or write it again"


def _siblings(path: Path) -> list[str]:
    return sorted(child.name for child in path.parent.iterdir()) if path.parent.is_dir() else []
