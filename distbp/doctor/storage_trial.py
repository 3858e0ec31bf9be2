"""Uses storage as a run does, in a folder of its own that is removed at the end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from distbp.errors import StorageError
from distbp.machine.aside import make_temporary_name
from distbp.run.storage.folder import Folder
from distbp.run.storage.opening import open_folder

MARK = "mark"
BULK_BYTES = 4 << 20


@dataclass(frozen=True)
class StorageFacts:
    """What storage did. error: what it refused, None if nothing. mark: path below it of a file to look for.

    small_s: seconds to write a small file for good. bytes_per_s: writing a larger one. admits_one: whether of two
    who create a file one is told no. free_bytes: on the disk, None on object stores.
    """

    url: str
    is_local: bool
    mark: str
    error: str | None = None
    small_s: float = 0.0
    bytes_per_s: float = 0.0
    admits_one: bool = True
    free_bytes: int | None = None


@contextmanager
def try_storage(url: str) -> Iterator[StorageFacts]:
    """Yield what storage did; the mark is there until the block ends."""
    name = make_temporary_name("doctor")
    mark = f"{name}/{MARK}"
    try:
        storage = open_folder(url)
    except StorageError as error:
        yield StorageFacts(url, "://" not in url, mark, error=str(error))
        return
    path = storage.local_path(name)
    created = [] if path is None else _find_missing(path.parent)
    try:
        yield _try(storage, name, url, mark)
    finally:
        with suppress(StorageError):
            storage.remove(name)
        for folder in created:
            with suppress(OSError):  # somebody else uses it by now
                folder.rmdir()


def _try(storage: Folder, name: str, url: str, mark: str) -> StorageFacts:
    path = storage.local_path(name)
    facts = StorageFacts(url, path is not None, mark)
    try:
        storage.publish(name, lambda folder: folder.write(MARK, b"distbp doctor was here\n"))
        folder = storage.child(name)
        small_s = _time(lambda: folder.write("small", b"x"))
        bulk_s = _time(lambda: folder.write("bulk", bytes(BULK_BYTES)))
        folder.append("log", b"one\n")
        folder.append("log", b"two\n")
        _expect(folder, "log", b"one\ntwo\n")
        admits_one = folder.write_new("lock", b"a") and not folder.write_new("lock", b"b")
        folder.remove("bulk")
        free_bytes = None if path is None else shutil.disk_usage(path).free
    except StorageError as error:
        return StorageFacts(url, facts.is_local, mark, error=str(error))
    return StorageFacts(
        url, facts.is_local, mark, None, small_s, BULK_BYTES / max(bulk_s, 1e-9), admits_one, free_bytes
    )


def _time(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _expect(folder: Folder, name: str, content: bytes) -> None:
    found = folder.read(name)
    if found != content:
        raise StorageError(
            f"'{folder.url}/{name}' reads as {found!r:.40} after {content!r} was written; use other storage"
        )


def _find_missing(path: Path) -> list[Path]:
    """Return the folders that would have to be made for `path`, the innermost first."""
    chain = [path, *path.parents]
    return [folder for folder in chain if not folder.exists()]
