"""Which files a source consists of, on any filesystem that fsspec opens, in sorted order.

A source is a folder (read to its depths, partitioned or not), a glob, or a single file; a path or a URL.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from distbp.data.reading import LONGEST_REASON, list_names
from distbp.errors import DataError
from distbp.text.sentences import first_line

KINDS = {
    ".parquet": (".parquet",),
    ".npy": (".npy",),
    ".npz": (".npz",),
    ".csv": (".csv", ".tsv", ".csv.gz", ".tsv.gz"),
}
"""The kinds of files, and how the names of each end."""
SUFFIXES = tuple(suffix for suffixes in KINDS.values() for suffix in suffixes)
_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "created")
_PACKAGES = {"s3": "distbp[s3]", "s3a": "distbp[s3]", "gs": "distbp[gcs]", "gcs": "distbp[gcs]"}


@dataclass(frozen=True)
class DataFile:
    """One file as it was when it was listed. name: below the source; version: changes when the content does."""

    url: str
    name: str
    size: int
    version: str

    @property
    def is_remote(self) -> bool:
        """Whether it is on another machine, so that a copy on disk is worth having."""
        return "://" in self.url and not self.url.startswith(("file://", "local://", "memory://"))


@dataclass(frozen=True)
class Listing:
    """The files of a source, sorted by name, all of one kind. suffix: what stands for the kind, one of KINDS."""

    source: str
    files: tuple[DataFile, ...]
    suffix: str

    def identity(self) -> str:
        """Return a hash of which files there are, how long, and in which version."""
        lines = [f"{file.url} {file.size} {file.version}" for file in self.files]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def list_files(source: str) -> Listing:
    """Return the files that hold the examples of `source`; whatever is named with `_` or `.` first is left out.

    Raises DataError when there are none, when they are of several kinds, or one is empty.
    """
    with opening(source):
        filesystem, root = url_to_fs(str(Path(source).expanduser()) if "://" not in source else source)
        filesystem.invalidate_cache()
        found = _find(filesystem, root)
    base = root if root not in found else root.rpartition("/")[0]
    base = base.partition("*")[0].partition("?")[0].partition("[")[0].rpartition("/")[0] if _is_glob(base) else base
    names = {path: path[len(base) :].strip("/") for path in found}
    kept = [path for path in sorted(found) if not _is_left_out(names[path])]
    is_remote = "://" in source
    files = [
        DataFile(filesystem.unstrip_protocol(path) if is_remote else path, names[path], *_identify(found[path]))
        for path in kept
    ]
    return _check(source, files, [names[path] for path in found])


def look_again(file: DataFile) -> None:
    """Raise DataError if a file is not what it was when it was listed."""
    with opening(file.url):
        filesystem, path = url_to_fs(file.url)
        filesystem.invalidate_cache()
        try:
            size, version = _identify(filesystem.info(path))
        except FileNotFoundError:
            raise DataError(
                f"'{file.url}' is gone since the first look at the data, or cannot be seen from node "
                f"'{socket.gethostname()}'; bring it back, or start a new run"
            ) from None
    if (size, version) != (file.size, file.version):
        change = f"it had {file.size} bytes and has {size}" if size != file.size else "it was written again"
        raise DataError(
            f"'{file.url}' has changed since the first look at the data: {change}; "
            "bring the old file back, or start a new run"
        )


@contextmanager
def opening(url: str) -> Iterator[None]:
    """Turn whatever a filesystem raises into one DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # storage packages raise exceptions of all kinds
        raise DataError(f"cannot read '{url}': {explain_failure(error, url)}") from error


def explain_failure(error: Exception, url: str) -> str:
    """Return why a filesystem failed, and what to do."""
    protocol = url.partition("://")[0]
    text = first_line(error)[:LONGEST_REASON]
    if isinstance(error, FileNotFoundError):
        return "it does not exist; check the path"
    if isinstance(error, PermissionError):
        return "permission denied; check its owner and mode, or your credentials"
    if isinstance(error, ImportError):
        return f"{protocol}:// needs a package; run: pip install '{_PACKAGES.get(protocol, text)}'"
    if isinstance(error, ValueError) and "rotocol not known" in text:
        return f"{protocol}:// is no known kind of storage; use a path, or a URL such as s3://bucket/folder"
    if "credential" in (type(error).__name__ + text).lower():
        return "no valid credentials were found; set them up as the storage's own tools expect them"
    return f"{text}; check the storage and the connection to it"


def _find(filesystem: fsspec.AbstractFileSystem, root: str) -> dict[str, Mapping[str, Any]]:
    if filesystem.isfile(root):
        return {root: filesystem.info(root)}
    if filesystem.isdir(root):
        return dict(filesystem.find(root, detail=True))
    found = filesystem.glob(root, detail=True) if _is_glob(root) else {}
    files = {path: info for path, info in found.items() if info["type"] == "file"}
    if not files:
        raise FileNotFoundError(root)
    return files


def _is_glob(path: str) -> bool:
    return any(mark in path for mark in "*?[")


def _is_left_out(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)


def _identify(info: Mapping[str, Any]) -> tuple[int, str]:
    version = next((info[key] for key in _VERSIONS if info.get(key) is not None), "")
    moment = version.timestamp() if isinstance(version, datetime) else version  # listings and files may differ in this
    return int(info["size"] or 0), str(moment)


def _check(source: str, files: list[DataFile], all_names: list[str]) -> Listing:
    kinds = {kind: [f for f in files if f.name.lower().endswith(suffixes)] for kind, suffixes in KINDS.items()}
    kinds = {kind: matching for kind, matching in kinds.items() if matching}
    if not kinds:
        raise DataError(f"'{source}' has no {', '.join(SUFFIXES)} file, it holds {list_names(sorted(all_names))}")
    if len(kinds) > 1:
        examples = list_names(matching[0].name for matching in kinds.values())
        raise DataError(f"'{source}' holds files of several kinds such as {examples}; name one kind, as in '*.parquet'")
    ((suffix, matching),) = kinds.items()
    empty = next((file for file in matching if file.size == 0), None)
    if empty is not None:
        raise DataError(f"'{empty.url}' is an empty file (0 bytes); write it again, or remove it")
    return Listing(source, tuple(matching), suffix)
