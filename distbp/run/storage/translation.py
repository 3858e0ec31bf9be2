"""The border to storage: whatever a filesystem raises becomes one StorageError sentence here, and only here."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from distbp.errors import DistbpError, StorageError
from distbp.text.sentences import first_line

_ELSEWHERE = "or choose another storage"
_FULL = ("no space is left", f"free some, {_ELSEWHERE}")
_DENIED = ("permission denied", f"check its owner, mode and your credentials, {_ELSEWHERE}")
_IN_THE_WAY = ("a file is in the way", f"expected a folder; move the file, {_ELSEWHERE}")
_KNOWN = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: ("the disk quota is used up", f"free some space, {_ELSEWHERE}"),
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: ("the filesystem is read-only", "choose a storage that can be written"),
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTEMPTY: ("a folder of that name exists", "choose another name"),
    errno.EISDIR: ("a folder is in the way", f"expected a file; move the folder, {_ELSEWHERE}"),
    errno.ENOENT: ("it does not exist", "check the path"),
    errno.ENAMETOOLONG: ("the path is too long", "choose a shorter storage path or name"),
}
_ERRNO_OF_TYPE = {
    PermissionError: errno.EACCES,
    NotADirectoryError: errno.ENOTDIR,
    IsADirectoryError: errno.EISDIR,
    FileExistsError: errno.EEXIST,
    FileNotFoundError: errno.ENOENT,
}
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


@contextmanager
def translate_storage_errors(action: str, url: str) -> Iterator[None]:
    """Turn any exception inside into a StorageError 'cannot <action> <url>: why; what to do'.

    Storage packages raise exceptions of all kinds (botocore, aiohttp, safetensors), hence the broad clause: put
    nothing but calls to storage inside. distbp's own errors pass.
    """
    try:
        yield
    except DistbpError:
        raise
    except Exception as error:
        reason, advice = _explain(error, action, url)
        raise StorageError(f"cannot {action} '{url}': {reason}; {advice}") from error


def _explain(error: Exception, action: str, url: str) -> tuple[str, str]:
    """Return why it failed and what to do about it."""
    protocol = url.partition("://")[0]
    if isinstance(error, ImportError):
        return f"{protocol}:// needs a package that is not installed", _advise_install(error, protocol)
    if isinstance(error, ValueError) and "rotocol not known" in str(error):
        return f"{protocol}:// is no known kind of storage", "use a path, or a URL such as s3://bucket/folder"
    if "credential" in type(error).__name__.lower() or "credential" in str(error).lower():
        return f"{protocol}:// found no valid credentials", "set them up as its own tools expect them"
    number = _find_errno(error)
    if number == errno.ENOENT and action == "write" and protocol != url:
        return "what it goes into does not exist", "create the bucket, or check the path"
    known = _KNOWN.get(number)
    if known is not None:
        return known
    return _describe(error), "check the storage and the connection to it"


def _advise_install(error: ImportError, protocol: str) -> str:
    extra = _EXTRAS.get(protocol)
    return f"run: pip install 'distbp[{extra}]'" if extra else _describe(error)


def _find_errno(error: Exception) -> int:
    """Return the operating system's error number, 0 if there is none; safetensors gives it in its text only."""
    if isinstance(error, OSError):
        by_type = next((number for kind, number in _ERRNO_OF_TYPE.items() if isinstance(error, kind)), 0)
        return error.errno or by_type
    in_text = re.search(r"\(os error (\d+)\)", str(error))
    return int(in_text[1]) if in_text else 0


def _describe(error: Exception) -> str:
    strerror = error.strerror if isinstance(error, OSError) else None
    return first_line(strerror or error)
