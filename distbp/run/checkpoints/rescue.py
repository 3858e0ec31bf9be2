"""The last resort: a run's newest state beside the process, when its own storage cannot be written."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping

from distbp.errors import DistbpError, StorageError
from distbp.run.checkpoints.checkpoint import Checkpoint
from distbp.run.checkpoints.store import CheckpointStore
from distbp.run.directory import RunDirectory
from distbp.run.names import next_name
from distbp.run.storage.backlog import Rescue
from distbp.run.storage.folder import join_url
from distbp.run.storage.opening import open_folder

MAX_STEM_LENGTH = 80


def save_aside(run: RunDirectory, checkpoint: Checkpoint, best: bool, lines: Mapping[str, bytes]) -> Rescue:
    """Write a checkpoint and waiting log lines as a run of the same name into a new folder on this machine.

    It goes below the current folder or, where that cannot be written either, below the one for temporary files.
    lines: by file name.
    """
    reasons = []
    for base in (".", tempfile.gettempdir()):
        try:
            return _save_below(base, run, checkpoint, best, lines)
        except DistbpError as error:
            reasons.append(str(error))
    return Rescue(f"the state after step {checkpoint.step} could not be saved elsewhere either: {'; '.join(reasons)}")


def _save_below(base: str, run: RunDirectory, checkpoint: Checkpoint, best: bool, lines: Mapping[str, bytes]) -> Rescue:
    name = next_name(base, f"distbp-rescue-{run.name[:MAX_STEM_LENGTH]}")
    storage = name if base == "." else join_url(base, name)
    folder = open_folder(storage)
    try:
        copy = run.copy_to(storage)
        CheckpointStore(copy, keep=1).save(checkpoint, best)
    except BaseException:
        Rescue("it could not be saved", folder).discard()
        raise
    without = _append_lines(copy, lines)
    return Rescue(
        f"the state after step {checkpoint.step} was saved in '{copy.url}'{without}: the same command resumes from "
        f"what storage has, and with --storage {shlex.quote(storage)} --name {run.name} from there",
        folder,
    )


def _append_lines(copy: RunDirectory, lines: Mapping[str, bytes]) -> str:
    """Write as many log lines as fit, and return what to add to the message: the checkpoint matters more."""
    try:
        for file_name, content in lines.items():
            copy.folder.append(file_name, content)
    except StorageError as error:
        return f" without the newest lines of its logs ({error})"
    return ""
