"""What a run asks of storage: a small interface.

A local folder has atomic renames and appends; every other filesystem counts as an object store that has neither.
Its two forms are in local_folder.py and remote_folder.py; opening.py chooses. The rest of `run` never looks behind it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from distbp.machine.aside import TEMPORARY_PREFIX

Guard = Callable[[], AbstractContextManager[None]]
"""Is entered around every change of what others see; raises StorageError where this process may not make it."""


class Folder(ABC):
    """One folder, which need not exist yet, and the files and folders in it.

    url: for messages, with passwords masked.
    flush_interval_s: seconds between two appends that this storage takes lightly.
    patience_s: how long to try again at the end of a run, when nothing else is left to do, before giving up.
    prompt_s: how long training may wait for a checkpoint under way before this storage counts as slow.
    guard: what every change goes through, also in its children.
    Every method raises StorageError for what storage refuses; what does not exist is no error when reading.
    """

    url: str
    flush_interval_s: float
    patience_s: float
    prompt_s: float
    guard: Guard = nullcontext

    @abstractmethod
    def guarded(self, guard: Guard) -> Folder:
        """Return the same folder with another guard."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of its path."""

    @property
    @abstractmethod
    def parent(self) -> Folder:
        """The folder it is in."""

    @property
    @abstractmethod
    def identity(self) -> str | None:
        """What tells this folder from a copy of it on this machine, None where nothing does."""

    @abstractmethod
    def child(self, name: str) -> Folder:
        """Return the folder `name` in it."""

    @abstractmethod
    def local_path(self, name: str) -> Path | None:
        """Return the path of a file for libraries that open files themselves; None on object stores."""

    @abstractmethod
    def is_file(self) -> bool:
        """Return whether its own path is that of a file."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the sorted names in it; [] if it does not exist or is a file."""

    @abstractmethod
    def size_bytes(self, name: str) -> int | None:
        """Return the size of a file, None if there is none."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None if there is none."""

    @abstractmethod
    def read_lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file, each with its newline, none if there is no file."""

    @abstractmethod
    def read_range(self, name: str, start: int, stop: int) -> bytes | None:
        """Return the bytes [start, stop) of a file, fewer where it ends before; None if there is none.

        `start` must lie inside the file: object stores refuse what is behind its end.
        """

    def read_end(self, name: str, num_bytes: int) -> bytes | None:
        """Return the last bytes of a file, at most `num_bytes`; None if there is none."""
        size = self.size_bytes(name)
        if not size:
            return self.read(name)
        return self.read_range(name, max(0, size - num_bytes), size)

    @abstractmethod
    def write(self, name: str, content: bytes, sync: bool = True) -> None:
        """Replace a file at once: a reader, now or after a crash, sees the old content or all of the new.

        sync: wait until the disk has it.
        """

    @abstractmethod
    def write_new(self, name: str, content: bytes) -> bool:
        """Write a file if there is none and return True; else change nothing and return False."""

    @abstractmethod
    def write_over(self, name: str, old: bytes, new: bytes) -> bool:
        """Replace a file whose content is `old` and return True; else change nothing and return False.

        On a local filesystem nothing else may write meanwhile, as inside `exclusively`. On S3 the server decides; other
        object stores are asked first.
        """

    @abstractmethod
    def append(self, name: str, content: bytes) -> None:
        """Append all of `content` to a file, or nothing of it if that fails; creates the file."""

    @abstractmethod
    def publish(self, name: str, fill: Callable[[Folder], None]) -> None:
        """Create the folder `name` with what `fill` writes into the folder it is given.

        Locally it appears at once and complete. On an object store its files appear one after the other, so `fill`
        must write last the file that readers look for. Raises StorageError where a folder of that name has content
        and folders can be renamed; on an object store `fill` has to see to that.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file or a whole folder; fine if there is none."""

    @abstractmethod
    def exclusively(self) -> AbstractContextManager[None]:
        """Keep other processes on this machine out while inside, where the filesystem can do that."""


def join_url(url: str, name: str) -> str:
    """Return the URL of `name` in the folder at `url`."""
    return f"{url}{name}" if url.endswith("://") else f"{url.rstrip('/')}/{name}"


def parent_url(url: str) -> str:
    """Return the URL of the folder that `url` is in; '' for a path of one part."""
    parent = url.rstrip("/").rpartition("/")[0]
    return f"{parent}/" if parent.endswith(":/") else parent


def remove_temporaries(folder: Folder) -> None:
    """Remove what killed writers left in `folder`; only for the one process that may write there."""
    for name in folder.names():
        if name.startswith(TEMPORARY_PREFIX):
            folder.remove(name)
