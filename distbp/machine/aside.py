"""The one way to replace a file: written whole under a fresh name beside it, synced, renamed."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"
_MAX_NAME_LENGTH = 60  # of the target's name in the temporary one, whose whole length filesystems limit


@contextmanager
def replace_file(target: Path, sync: bool = True) -> Iterator[Path]:
    """Yield a new, empty file beside `target`; when the block ends well it takes the target's place at once.

    Its name is new, so no file that is there is written to, and no link is followed; a link at `target` is replaced
    itself. Its mode is the one that umask gives. sync: wait until the disk has it.
    Raises OSError, also where `target` is a device, a pipe or a folder, which must not be replaced.
    """
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file")
    aside = target.with_name(make_temporary_name(target.name))
    try:
        aside.open("xb").close()
        yield aside
        if sync:
            sync_path(aside)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    if sync:
        sync_path(target.parent)


def make_temporary_name(name: str) -> str:
    """Return a new hidden name for what is going to be called `name`."""
    return f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{name[-_MAX_NAME_LENGTH:]}"


def is_temporary_of(name: str, final: str) -> bool:
    """Return whether `make_temporary_name(final)` may have returned `name`."""
    prefix, end = re.escape(TEMPORARY_PREFIX), re.escape(final[-_MAX_NAME_LENGTH:])
    return re.fullmatch(f"{prefix}[0-9a-f]{{8}}-{end}", name) is not None


def sync_path(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some mounted filesystems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def make_folders(path: Path) -> None:
    """Make a folder and those it is in, each with its name on the disk."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        sync_path(folder.parent)
