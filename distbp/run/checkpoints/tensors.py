"""Tensors in safetensors files, with the SHA-256 that proves them whole.

Local files are written from, and read into, the arrays themselves; object stores take one copy in memory.
"""

from __future__ import annotations

import errno
import hashlib
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from distbp.machine.aside import sync_path
from distbp.run.checkpoints.manifest import DamagedCheckpointError, StateFile
from distbp.run.storage.folder import Folder, join_url
from distbp.run.storage.translation import translate_storage_errors


def save_tensors(folder: Folder, name: str, tensors: Mapping[str, NDArray], at_once: bool = False) -> StateFile:
    """Write the tensors to the file `name`, synced, and return what proves it whole.

    at_once: replace a file of that name in one moment, which takes a copy in memory.
    """
    # safetensors reads the memory behind an array as it lies there, so transposed and sliced ones must be copied
    dense = {key: np.asarray(tensor, order="C") for key, tensor in tensors.items()}
    path = None if at_once else folder.local_path(name)
    if path is None:
        content = safetensors.numpy.save(dense)
        folder.write(name, content)
        return StateFile(name, len(content), hashlib.sha256(content).hexdigest())
    with translate_storage_errors("write", join_url(folder.url, name)):
        path.touch()
        mode = path.stat().st_mode  # as umask gives it
        safetensors.numpy.save_file(dense, path)
        path.chmod(stat.S_IMODE(mode))  # safetensors lets only the owner read what it writes
        sync_path(path)
        return StateFile(name, path.stat().st_size, _hash_file(path))


def check_file(folder: Folder, state: StateFile) -> None:
    """Raise DamagedCheckpointError unless a file is, to the byte, what was written."""
    _check_size(folder, state)
    path = folder.local_path(state.name)
    content = folder.read(state.name) or b"" if path is None else b""
    _check(hashlib.sha256(content).hexdigest() if path is None else _hash_file(path), state)


def load_tensors(folder: Folder, state: StateFile) -> dict[str, NDArray]:
    """Return the tensors in a file; raises DamagedCheckpointError unless it is, to the byte, what was written."""
    _check_size(folder, state)
    path = folder.local_path(state.name)
    if path is None:
        content = folder.read(state.name) or b""
        _check(hashlib.sha256(content).hexdigest(), state)
        return dict(safetensors.numpy.load(content))
    with translate_storage_errors("read", join_url(folder.url, state.name)):
        _check(_hash_file(path), state)
        return dict(safetensors.numpy.load_file(path))


def _check_size(folder: Folder, state: StateFile) -> None:
    num_bytes = folder.size_bytes(state.name)
    if num_bytes is None:
        raise DamagedCheckpointError(f"it has no {state.name}")
    if num_bytes != state.num_bytes:
        raise DamagedCheckpointError(f"{state.name} has {num_bytes:,} bytes instead of {state.num_bytes:,}")


def _check(sha256: str, state: StateFile) -> None:
    if sha256 != state.sha256:
        raise DamagedCheckpointError(f"{state.name} was changed after it was written")


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise DamagedCheckpointError(f"{path.name} cannot be read from the disk (input/output error)") from error
