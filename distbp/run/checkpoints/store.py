"""The checkpoints of a run: saved whole or not at all, loaded only if every byte is what was saved."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

from distbp.errors import CheckpointError
from distbp.run.checkpoints.checkpoint import Checkpoint
from distbp.run.checkpoints.manifest import (
    DamagedCheckpointError,
    Manifest,
    decode_manifest,
    encode_manifest,
    make_manifest,
)
from distbp.run.checkpoints.tensors import check_file, load_tensors, save_tensors
from distbp.run.directory import RunDirectory
from distbp.run.storage.backlog import Rescue
from distbp.run.storage.folder import Folder, remove_temporaries

CHECKPOINTS_DIR = "checkpoints"
MANIFEST_FILE = "manifest.json"
STATE_FILE = "state.safetensors"
MODULE_FILE = "model.safetensors"


class CheckpointStore:
    """Saves, finds and prunes the checkpoints of a run.

    keep: newest checkpoints to keep, besides the newest best one. Opening a store while holding the run's lock
    removes what killed writers left behind.
    run: whose checkpoints they are.
    skipped: one sentence for each damaged checkpoint the last load_latest or load_best passed over.
    """

    def __init__(self, run: RunDirectory, keep: int) -> None:
        if keep < 1:
            raise ValueError(f"keep={keep}; expected at least 1")
        self.run = run
        self._folder = run.folder.child(CHECKPOINTS_DIR)
        self._keep = keep
        self._manifests: dict[bytes, Manifest] = {}  # decoded before, by content
        self.skipped: list[str] = []
        if run.holds_lock:
            remove_temporaries(self._folder)

    def save(self, checkpoint: Checkpoint, best: bool = False) -> None:
        """Write a checkpoint, synced, then prune; raises StorageError and leaves all older ones as they were.

        A step that is saved again replaces its checkpoint, and stays the best one if its parameters are the same.
        """
        self.run.check_lock()
        name = _name_step(checkpoint.step)
        folder = self._folder.child(name)
        present = self._glance(checkpoint.step)
        best = best or (present is not None and present.best and present.digest == checkpoint.digest)
        if folder.names():
            _replace(folder, checkpoint, best)
        else:
            self._folder.publish(name, lambda new: _fill(new, checkpoint, best, STATE_FILE))
        self.prune(checkpoint.step)

    def rescue(self, checkpoint: Checkpoint, best: bool, lines: Mapping[str, bytes]) -> Rescue:
        """Save a checkpoint and waiting log lines (by file name) beside the process: storage cannot be written."""
        from distbp.run.checkpoints.rescue import save_aside  # it builds on this class

        return save_aside(self.run, checkpoint, best, lines)

    def load_latest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, None if there is none; damaged ones are told in `skipped`."""
        self.skipped = []
        return next(self._load_whole(reversed(self._list_folders())), None)

    def newest_data(self) -> Mapping[str, Any] | None:
        """Return the data's fingerprint in the newest checkpoint that looks whole, without reading its tensors."""
        found = [manifest.data for _, manifest in self._glance_at_all()]
        return found[-1] if found else None

    def load_best(self) -> Checkpoint | None:
        """Return the newest whole checkpoint that was saved as the best, None if there is none."""
        self.skipped = []
        marked = [step for step, manifest in self._glance_at_all() if manifest.best]
        return next(self._load_whole(reversed(marked)), None)

    def load(self, step: int) -> Checkpoint:
        """Return the checkpoint of one step; raises CheckpointError if there is none or it is damaged."""
        if step not in self._list_folders():
            steps = ", ".join(map(str, self.list_steps())) or "none"
            raise CheckpointError(f"run '{self.run.url}' has no checkpoint of step {step}; it has: {steps}")
        try:
            return self._load(step)
        except DamagedCheckpointError as error:
            url = self._folder.child(_name_step(step)).url
            raise CheckpointError(f"checkpoint '{url}' is damaged: {error}") from error

    def list_steps(self) -> list[int]:
        """Return the steps of all checkpoints, ascending; whether they are whole shows only when loading."""
        return [step for step in self._list_folders() if self._open(step).size_bytes(MANIFEST_FILE) is not None]

    def glance_at_position(self, step: int) -> Mapping[str, Any] | None:
        """Return where the run stood at a checkpoint, without reading its tensors; None if it is not whole."""
        manifest = self._glance(step)
        return None if manifest is None else manifest.position

    def _load_whole(self, steps: Iterator[int]) -> Iterator[Checkpoint]:
        for step in steps:
            try:
                yield self._load(step)
            except DamagedCheckpointError as error:
                self.skipped.append(f"{_name_step(step)}: {error}")

    def _load(self, step: int) -> Checkpoint:
        folder = self._open(step)
        manifest = self._read_manifest(folder)
        if manifest.step != step:
            raise DamagedCheckpointError(f"its manifest is that of step {manifest.step}")
        if manifest.module is not None:
            check_file(folder, manifest.module)
        return Checkpoint(
            step=step,
            tensors=load_tensors(folder, manifest.state),
            digest=manifest.digest,
            recipe_digest=manifest.recipe_digest,
            position=manifest.position,
            data=manifest.data,
            schema=manifest.schema,
        )

    def prune(self, newest: int) -> None:
        """Remove what is older than `newest`, known to be whole, but for the newest whole and the newest best one."""
        whole = [(step, manifest.best) for step, manifest in self._glance_at_all() if step <= newest]
        kept = {*(step for step, _ in whole[-self._keep :]), *[step for step, best in whole if best][-1:]}
        for step in self._list_folders():
            if step < newest and step not in kept:
                self._open(step).remove(MANIFEST_FILE)  # first, so that half a removal is no checkpoint either
                self._folder.remove(_name_step(step))

    def _glance_at_all(self) -> list[tuple[int, Manifest]]:
        glances = ((step, self._glance(step)) for step in self._list_folders())
        found = [(step, manifest) for step, manifest in glances if manifest is not None]
        present = {id(manifest) for _, manifest in found}
        self._manifests = {content: m for content, m in self._manifests.items() if id(m) in present}
        return found

    def _glance(self, step: int) -> Manifest | None:
        """Return the manifest of a checkpoint that looks whole without reading its tensors, else None."""
        folder = self._open(step)
        try:
            manifest = self._read_manifest(folder)
        except CheckpointError:
            return None
        files = [file for file in (manifest.state, manifest.module) if file is not None]
        return manifest if all(folder.size_bytes(file.name) == file.num_bytes for file in files) else None

    def _read_manifest(self, folder: Folder) -> Manifest:
        content = folder.read(MANIFEST_FILE)
        if content is None:
            raise DamagedCheckpointError(f"it has no {MANIFEST_FILE}")
        if content not in self._manifests:
            self._manifests[content] = decode_manifest(content)
        return self._manifests[content]

    def _list_folders(self) -> list[int]:
        matches = (re.fullmatch(r"step-(\d{8,})", name) for name in self._folder.names())
        return sorted(int(match[1]) for match in matches if match is not None)

    def _open(self, step: int) -> Folder:
        return self._folder.child(_name_step(step))


def _name_step(step: int) -> str:
    return f"step-{step:08d}"


def _fill(folder: Folder, checkpoint: Checkpoint, best: bool, state_name: str) -> None:
    state = save_tensors(folder, state_name, checkpoint.tensors)
    module = None if checkpoint.module is None else save_tensors(folder, MODULE_FILE, checkpoint.module, at_once=True)
    folder.write(MANIFEST_FILE, encode_manifest(make_manifest(checkpoint, state, best, module)))


def _replace(folder: Folder, checkpoint: Checkpoint, best: bool) -> None:
    """Write the new state beside the old one; writing the manifest is the moment that switches over."""
    state_name = f"state-{secrets.token_hex(4)}.safetensors"
    try:
        _fill(folder, checkpoint, best, state_name)
    except CheckpointError:  # the run is another driver's by now, and this file nobody's
        folder.guarded(nullcontext).remove(state_name)
        raise
    for name in folder.names():
        if name not in (MANIFEST_FILE, MODULE_FILE, state_name):
            folder.remove(name)
