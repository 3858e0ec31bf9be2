"""A folder on any other fsspec filesystem, treated as an object store: whole files, no rename, no append."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem

from distbp.errors import StorageError
from distbp.run.storage.folder import Folder, Guard, join_url, parent_url
from distbp.run.storage.translation import translate_storage_errors

CALL_TIMEOUT_S = 40.0  # for one call that moves no data
MIN_BYTES_PER_S = 250_000.0
MAX_CONDITIONAL_BYTES = 64 << 20  # s3fs sends what is larger in parts, which know no condition
_ALWAYS: Mapping[str, str] = {}


class RemoteFolder(Folder):
    """A folder on an object store; see Folder.

    Listings are never taken from fsspec's cache, because other processes write too. No call lasts longer than
    40 s plus what its bytes need at 2 Mbit/s, where the filesystem can be interrupted (s3fs and gcsfs can).
    """

    flush_interval_s = 30.0
    patience_s = 90.0
    prompt_s = 0.0

    def __init__(self, filesystem: AbstractFileSystem, path: str, url: str, guard: Guard = nullcontext) -> None:
        self.url = url
        self._filesystem = filesystem
        self._path = path.rstrip("/")
        self.guard = guard

    def guarded(self, guard: Guard) -> RemoteFolder:
        """Return the same folder with another guard."""
        return RemoteFolder(self._filesystem, self._path, self.url, guard)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self._path.rpartition("/")[2]

    @property
    def parent(self) -> RemoteFolder:
        """The folder it is in."""
        return RemoteFolder(self._filesystem, self._path.rpartition("/")[0], parent_url(self.url))

    @property
    def identity(self) -> None:
        """None: a copy of an object is like the object."""
        return None

    def child(self, name: str) -> RemoteFolder:
        """Return the folder `name` in it."""
        return RemoteFolder(self._filesystem, self._locate(name), join_url(self.url, name), self.guard)

    def local_path(self, name: str) -> Path | None:  # noqa: ARG002 - the interface has it
        """Return None: there are no local paths here."""
        return None

    def is_file(self) -> bool:
        """Return whether its own path is that of a file."""
        with translate_storage_errors("look at", self.url):
            self._filesystem.invalidate_cache()
            return bool(self._call("isfile", self._path))

    def names(self) -> list[str]:
        """Return the sorted names in it; [] if it does not exist or is a file."""
        with translate_storage_errors("list", self.url), suppress(FileNotFoundError, NotADirectoryError):
            self._filesystem.invalidate_cache()
            paths = [str(path).rstrip("/") for path in self._call("ls", self._path, detail=False)]
            # An object store may list the folder itself, or the file that has its path.
            own = self._path.strip("/")
            return sorted(path.rpartition("/")[2] for path in paths if path.strip("/") != own)
        return []

    def size_bytes(self, name: str) -> int | None:
        """Return the size of a file, None if there is none."""
        with translate_storage_errors("look at", join_url(self.url, name)), suppress(FileNotFoundError):
            self._filesystem.invalidate_cache()
            info = self._call("info", self._locate(name))
            return int(info["size"]) if info["type"] == "file" else None
        return None

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None if there is none."""
        num_bytes = self.size_bytes(name)
        with translate_storage_errors("read", join_url(self.url, name)), suppress(FileNotFoundError):
            return None if num_bytes is None else bytes(self._call("cat_file", self._locate(name), num_bytes=num_bytes))
        return None

    def read_lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file, which is fetched whole; none if there is no file."""
        yield from io.BytesIO(self.read(name) or b"")

    def read_range(self, name: str, start: int, stop: int) -> bytes | None:
        """Return the bytes [start, stop) of a file, fewer where it ends before; None if there is none."""
        with translate_storage_errors("read", join_url(self.url, name)), suppress(FileNotFoundError):
            options = {"start": start, "end": stop}
            return bytes(self._call("cat_file", self._locate(name), num_bytes=stop - start, **options))
        return None

    def write(self, name: str, content: bytes, sync: bool = True) -> None:  # noqa: ARG002 - an upload is synced
        """Replace a file; object stores show an upload only when it is complete."""
        self._put(name, content)

    def write_new(self, name: str, content: bytes) -> bool:
        """Write a file if there is none; where the store cannot do that in one request, look first."""
        if self.size_bytes(name) is not None:
            return False
        with translate_storage_errors("write", join_url(self.url, name)), self.guard():
            try:
                self._call("pipe_file", self._locate(name), content, num_bytes=len(content), mode="create")
            except (OSError, NotImplementedError, TypeError, ValueError):  # taken meanwhile, or no such mode
                if self.size_bytes(name) is not None:
                    return False
                self._call("pipe_file", self._locate(name), content, num_bytes=len(content))
        return True

    def write_over(self, name: str, old: bytes, new: bytes) -> bool:
        """Replace a file whose content is `old`, and say whether it was."""
        condition = self._if_unchanged(name, len(new))  # before the content is read
        if self.read(name) != old:
            return False
        try:
            self._put(name, new, condition)
        except StorageError:
            found = self.read(name)
            if found == old:
                raise
            return found == new
        return True

    def append(self, name: str, content: bytes) -> None:
        """Append by writing the whole file again, which is why `flush_interval_s` is long here.

        Content that is the file's end already is not appended again: that call failed only in its answer. Where
        somebody else writes meanwhile, S3 refuses, so that none of the other's lines are lost.
        """
        condition = self._if_unchanged(name, 0)
        present = self.read(name) or b""
        if not present.endswith(content):
            is_small = len(present) + len(content) <= MAX_CONDITIONAL_BYTES
            self._put(name, present + content, condition if is_small else {})

    def publish(self, name: str, fill: Callable[[Folder], None]) -> None:
        """Fill the folder `name` in place."""
        fill(self.child(name))

    def remove(self, name: str) -> None:
        """Remove a file or a whole folder; fine if there is none."""
        url = join_url(self.url, name)
        with translate_storage_errors("remove", url), self.guard(), suppress(FileNotFoundError):
            self._filesystem.invalidate_cache()
            self._call("rm", self._locate(name), recursive=True)

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Do nothing: object stores have no locks."""
        yield

    def _put(self, name: str, content: bytes, condition: Mapping[str, str] = _ALWAYS) -> None:
        with translate_storage_errors("write", join_url(self.url, name)), self.guard():
            self._call("pipe_file", self._locate(name), content, num_bytes=len(content), **condition)

    def _if_unchanged(self, name: str, num_bytes: int) -> Mapping[str, str]:
        """Return the option with which S3 writes a file only if it is still the one that it is now."""
        if "s3" not in self._filesystem.protocol or num_bytes > MAX_CONDITIONAL_BYTES:
            return _ALWAYS
        with translate_storage_errors("look at", join_url(self.url, name)), suppress(FileNotFoundError):
            self._filesystem.invalidate_cache()
            tag = self._call("info", self._locate(name)).get("ETag")
            return _ALWAYS if tag is None else {"IfMatch": tag}
        return _ALWAYS

    def _locate(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _call(self, method: str, *args: Any, num_bytes: int = 0, **options: Any) -> Any:
        """Return what a method of the filesystem returns; raises TimeoutError if storage does not answer in time."""
        if not getattr(self._filesystem, "async_impl", False):
            return getattr(self._filesystem, method)(*args, **options)
        coroutine = getattr(self._filesystem, f"_{method}")(*args, **options)
        future = asyncio.run_coroutine_threadsafe(coroutine, self._filesystem.loop)
        timeout_s = CALL_TIMEOUT_S + num_bytes / MIN_BYTES_PER_S
        try:
            return future.result(timeout_s)
        except TimeoutError:
            raise TimeoutError(f"no answer within {timeout_s:.0f} s") from None
        finally:
            future.cancel()  # what was abandoned must not write later; no effect on what is done
