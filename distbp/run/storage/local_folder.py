"""A folder on a local (or mounted) filesystem: written aside, synced, renamed."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from distbp.errors import StorageError
from distbp.machine.aside import is_temporary_of, make_folders, make_temporary_name, replace_file, sync_path
from distbp.run.storage.folder import Folder, Guard, join_url, parent_url
from distbp.run.storage.translation import translate_storage_errors

FLOCK_TIMEOUT_S = 5.0
FLOCK_POLL_S = 0.02


class LocalFolder(Folder):
    """A folder on a local filesystem; see Folder."""

    flush_interval_s = 1.0
    patience_s = 10.0
    prompt_s = 2.0

    def __init__(self, path: Path, url: str, guard: Guard = nullcontext) -> None:
        self.url = url
        self.path = path
        self.guard = guard

    def guarded(self, guard: Guard) -> LocalFolder:
        """Return the same folder with another guard."""
        return LocalFolder(self.path, self.url, guard)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.name

    @property
    def parent(self) -> LocalFolder:
        """The folder it is in."""
        return LocalFolder(self.path.parent, parent_url(self.url) or str(self.path.parent))

    @property
    def identity(self) -> str | None:
        """Its device and number; None if it does not exist."""
        with translate_storage_errors("look at", self.url), suppress(FileNotFoundError, NotADirectoryError):
            found = self.path.stat()
            return f"{found.st_dev}:{found.st_ino}"
        return None

    def child(self, name: str) -> LocalFolder:
        """Return the folder `name` in it."""
        return LocalFolder(self.path / name, join_url(self.url, name), self.guard)

    def local_path(self, name: str) -> Path:
        """Return the path of a file in it."""
        return self.path / name

    def is_file(self) -> bool:
        """Return whether its own path is that of a file."""
        with translate_storage_errors("look at", self.url):
            return self.path.exists() and not self.path.is_dir()

    def names(self) -> list[str]:
        """Return the sorted names in it; [] if it does not exist or is a file."""
        with translate_storage_errors("list", self.url), suppress(FileNotFoundError, NotADirectoryError):
            return sorted(path.name for path in self.path.iterdir())
        return []

    def size_bytes(self, name: str) -> int | None:
        """Return the size of a file, None if there is none."""
        with translate_storage_errors("look at", join_url(self.url, name)):
            path = self.path / name
            return path.stat().st_size if path.is_file() else None

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None if there is none."""
        with (
            translate_storage_errors("read", join_url(self.url, name)),
            suppress(FileNotFoundError, NotADirectoryError),
        ):
            self._refuse_pipe(name)
            return (self.path / name).read_bytes()
        return None

    def read_lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file, without holding more than one; none if there is no file."""
        with translate_storage_errors("read", join_url(self.url, name)), suppress(FileNotFoundError):
            self._refuse_pipe(name)
            with (self.path / name).open("rb") as file:
                yield from file

    def read_range(self, name: str, start: int, stop: int) -> bytes | None:
        """Return the bytes [start, stop) of a file, fewer where it ends before; None if there is none."""
        with (
            translate_storage_errors("read", join_url(self.url, name)),
            suppress(FileNotFoundError, NotADirectoryError),
        ):
            self._refuse_pipe(name)
            with (self.path / name).open("rb") as file:
                file.seek(start)
                return file.read(stop - start)
        return None

    def write(self, name: str, content: bytes, sync: bool = True) -> None:
        """Replace a file at once, by a rename."""
        with (
            translate_storage_errors("write", join_url(self.url, name)),
            self.guard(),
            replace_file(self.path / name, sync) as aside,
        ):
            aside.write_bytes(content)

    def write_new(self, name: str, content: bytes) -> bool:
        """Write a file if there is none; of two processes that try, one gets True."""
        with translate_storage_errors("write", join_url(self.url, name)), self.guard(), suppress(FileExistsError):
            with (self.path / name).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            return True
        return False

    def write_over(self, name: str, old: bytes, new: bytes) -> bool:
        """Replace a file whose content is `old`, and say whether it was; the disk may get it later."""
        if self.read(name) != old:
            return False
        self.write(name, new, sync=False)
        return True

    def append(self, name: str, content: bytes) -> None:
        """Append all of `content` or nothing of it."""
        with translate_storage_errors("write", join_url(self.url, name)), self.guard():
            self._refuse_pipe(name)
            with (self.path / name).open("ab", buffering=0) as file:
                size = file.tell()
                try:
                    _write_all(file.fileno(), content)
                except OSError:
                    file.truncate(size)
                    raise

    def publish(self, name: str, fill: Callable[[Folder], None]) -> None:
        """Create the folder `name` complete, by filling a hidden sibling and renaming it.

        Siblings of drivers that were killed meanwhile, or that come too late, are removed.
        """
        url = join_url(self.url, name)
        aside = self.path / make_temporary_name(name)
        try:
            with translate_storage_errors("write", url):
                make_folders(aside)
            fill(LocalFolder(aside, url))
            with translate_storage_errors("write", url):
                sync_path(aside)
                with self.guard():
                    aside.rename(self.path / name)
                sync_path(self.path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        for other in self.names():
            if is_temporary_of(other, name):
                shutil.rmtree(self.path / other, ignore_errors=True)

    def remove(self, name: str) -> None:
        """Remove a file or a whole folder; fine if there is none."""
        path = self.path / name
        url = join_url(self.url, name)
        with translate_storage_errors("remove", url), self.guard(), suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Hold the folder's own flock, which the kernel frees when a process dies.

        Raises StorageError if others, who may be strangers to distbp, do not let go of it within some seconds.
        """
        with translate_storage_errors("lock", self.url):
            descriptor = os.open(self.path, os.O_RDONLY)
        try:
            with suppress(OSError):  # some network filesystems have no locks: write_new still admits only one
                self._await_flock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _refuse_pipe(self, name: str) -> None:
        """Raise StorageError for a pipe or a device, which may block the process that opens it."""
        path = self.path / name
        if path.exists() and not path.is_file() and not path.is_dir():
            raise StorageError(
                f"cannot use '{join_url(self.url, name)}': it is a pipe or a device, not a file; move or remove it"
            )

    def _await_flock(self, descriptor: int) -> None:
        deadline = time.monotonic() + FLOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StorageError(
                        f"cannot lock '{self.url}': another program has held a lock on this folder (flock) for "
                        f"{FLOCK_TIMEOUT_S:.0f} s; end that program (lsof '{self.path}' names it), or choose another "
                        "storage"
                    ) from None
            time.sleep(FLOCK_POLL_S)


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
