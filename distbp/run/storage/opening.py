"""From a path or URL to the folder there: on a disk of this machine, or on any storage that fsspec opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec.core
from fsspec.implementations.local import LocalFileSystem

from distbp.run.storage.folder import Folder
from distbp.run.storage.local_folder import LocalFolder
from distbp.run.storage.remote_folder import RemoteFolder
from distbp.run.storage.translation import translate_storage_errors
from distbp.text.masking import mask_secrets

_OPTIONS: dict[str, dict[str, Any]] = {
    # s3fs tries again itself; with botocore's own attempts inside each of its, a refused connection takes 40 s
    "s3": {"config_kwargs": {"retries": {"max_attempts": 1}}},
}


def open_folder(url: str) -> Folder:
    """Return the folder at a path or fsspec URL; raises StorageError if no storage of that kind is available."""
    with translate_storage_errors("open", url):
        filesystem, path = fsspec.core.url_to_fs(url, **_OPTIONS.get(url.partition("://")[0], {}))
    if isinstance(filesystem, LocalFileSystem):
        return LocalFolder(Path(path), url)
    return RemoteFolder(filesystem, path, mask_secrets(url))
