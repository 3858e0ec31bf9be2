"""The bytes of files: read again while storage refuses, counted, and kept on local disk where they come from afar."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fsspec.core import url_to_fs

from distbp.data.blocks.files import DataFile, look_again, opening
from distbp.errors import DataError

logger = logging.getLogger("distbp")

FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 2.0
PATIENCE_S = 90.0
_SEAL_BYTES = 16
_ONE_AT_A_TIME = threading.Lock()  # of this process's threads; processes may pass the limit by a range each


@dataclass
class Counts:
    """What reading has cost so far. bytes_read: from the source itself, not from the cache."""

    bytes_read: int = 0
    bytes_from_cache: int = 0
    requests: int = 0


@dataclass
class Fetcher:
    """Reads ranges of files. A file that is not what it was at the first look is a DataError, never other data.

    patience_s: how long storage that refuses is asked again. pause: waits that many seconds, or less after `stop`.
    """

    cache: DiskCache | None = None
    patience_s: float = PATIENCE_S
    pause: Callable[[float], object] | None = None
    counts: Counts = field(default_factory=Counts)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __reduce__(self) -> tuple[type[Fetcher], tuple[DiskCache | None, float]]:
        return Fetcher, (self.cache, self.patience_s)  # elsewhere it counts anew

    def fetch(self, file: DataFile, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop) of a file."""
        cache = self.cache if file.is_remote else None
        content = None if cache is None else cache.get(file, start, stop)
        if content is not None:
            self._count(from_cache=len(content))
            return content
        content = self._persist(file, start, stop)
        self._count(read=len(content))
        if cache is not None:
            cache.put(file, start, stop, content)
        return content

    def stop(self) -> None:
        """Lose patience: whoever waits for storage is told now what it refused."""
        self._stopped.set()

    def _persist(self, file: DataFile, start: int, stop: int) -> bytes:
        waited_s, pause_s = 0.0, FIRST_PAUSE_S
        while True:
            try:
                return _read(file, start, stop)
            except DataError as error:
                is_over = self._stopped.is_set() or waited_s + pause_s > self.patience_s
                if is_over or not _may_pass(error):
                    raise
                if waited_s == 0.0:
                    logger.warning("%s; trying again for %.0f s", error, self.patience_s)
            (self.pause or self._stopped.wait)(pause_s)
            waited_s += pause_s
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)

    def _count(self, read: int = 0, from_cache: int = 0) -> None:
        with self._lock:
            self.counts.bytes_read += read
            self.counts.bytes_from_cache += from_cache
            self.counts.requests += read > 0


def _read(file: DataFile, start: int, stop: int) -> bytes:
    try:
        with opening(file.url):
            filesystem, path = url_to_fs(file.url)
            content = bytes(filesystem.cat_file(path, start=start, end=stop))
    except DataError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            look_again(file)
        raise
    look_again(file)  # after reading, so that a change while reading is seen too
    if len(content) != stop - start:
        raise DataError(f"'{file.url}' gave {len(content)} of the bytes {start} to {stop}; check the storage")
    return content


def _may_pass(error: DataError) -> bool:
    """Return whether asking again may help: not where something is missing, forbidden or changed."""
    cause = error.__cause__
    lasting = (FileNotFoundError, PermissionError, ImportError, ValueError, IsADirectoryError)
    is_lasting = isinstance(cause, lasting) or "credential" in type(cause).__name__.lower()
    return cause is not None and not is_lasting


@dataclass(frozen=True)
class DiskCache:
    """Ranges of remote files on local disk, the least recently used removed above `max_bytes`; processes may share it.

    Each file ends in a hash of its content: what a crash or a disk spoilt is not there. A full or read-only disk
    costs speed, nothing else.
    """

    folder: Path
    max_bytes: int

    def get(self, file: DataFile, start: int, stop: int) -> bytes | None:
        """Return what `put` kept, None if it is not there whole."""
        path = self._locate(file, start, stop)
        with suppress(OSError):
            sealed = path.read_bytes()
            content, seal = sealed[:-_SEAL_BYTES], sealed[-_SEAL_BYTES:]
            if len(content) == stop - start and _seal(content) == seal:
                os.utime(path)
                return content
        return None

    def put(self, file: DataFile, start: int, stop: int, content: bytes) -> None:
        """Keep a range, unless it is too large or the disk refuses."""
        if len(content) + _SEAL_BYTES > self.max_bytes:
            return
        with _ONE_AT_A_TIME, suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(content) + _SEAL_BYTES)
            write_whole(self._locate(file, start, stop), content + _seal(content))

    def _locate(self, file: DataFile, start: int, stop: int) -> Path:
        key = f"{file.url} {file.size} {file.version} {start} {stop}"
        return self.folder / (hashlib.sha256(key.encode()).hexdigest() + ".range")

    def _make_room(self, num_bytes: int) -> None:
        kept = []
        for path in self.folder.glob("*.range"):
            with suppress(FileNotFoundError):  # another process removed it
                status = path.stat()
                kept.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if total + num_bytes <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that others see it whole or not at all; raises OSError and leaves nothing then."""
    number, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(number, "wb") as stream:
            stream.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _seal(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_SEAL_BYTES).digest()
