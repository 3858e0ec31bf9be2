"""A run on disk: <storage>/<name>/ with its configuration, numerics, logs, checkpoints and result.

    config.yaml   numerics.json   steps.jsonl   events.jsonl   lock.json   checkpoints/   result.json

config.yaml is what makes a folder a run: it is there from the start or the run is not there at all.
It, result.json and each checkpoint's manifest say which distbp wrote them, in which format; 0.1.0 wrote format 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

from distbp.config import WRITTEN_BY, Config, Recipe
from distbp.errors import CheckpointError, ConfigError, RunTakenError, StorageError
from distbp.installation import describe_newer, describe_writer
from distbp.machine.aside import TEMPORARY_PREFIX
from distbp.run.config_file import StoredConfig, decode_config
from distbp.run.lock import HEARTBEAT_S, RunLock, is_driver_alive
from distbp.run.names import describe_missing_run, list_runs, validate_name
from distbp.run.records import (
    EVENTS_FILE,
    STEPS_FILE,
    StepRecord,
    last_step,
    parse_checksums,
    parse_events,
    parse_steps,
)
from distbp.run.storage.folder import Folder, join_url
from distbp.run.storage.opening import open_folder
from distbp.run.storage.outbox import Outbox
from distbp.run.storage.patience import persist
from distbp.text.json_text import check_seal, decode_object, encode_document, seal

CONFIG_FILE = "config.yaml"
NUMERICS_FILE = "numerics.json"
RESULT_FILE = "result.json"
NUM_END_BYTES = 1 << 16
"""Of a log, in which its last line is."""
RESULT_SEAL = "result_sha256"


class RunDirectory:
    """One run's folder; `create` or `open` it.

    url: <storage>/<name> as the user wrote it. name: the last part. folder: for the other classes of `run`.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder  # guarded once there is a lock
        self._unguarded = folder
        self.url = folder.url
        self.name = folder.name
        self._lock: RunLock | None = None
        self._decoded: tuple[bytes, StoredConfig] | None = None
        self._unchanging: dict[str, bytes] = {}  # kept so that they are at hand when storage is not

    @classmethod
    def create(cls, storage: str, name: str, config: Config, numerics: Mapping[str, object]) -> RunDirectory:
        """Return a new run with its configuration and numerics written.

        What a killed driver left before the run was complete is no run; its folder is used again.

        Raises ConfigError for a bad name, RunTakenError if there is such a run, CheckpointError if something else is
        in its place, StorageError if it cannot be written.
        """
        validate_name(name)
        if name.startswith("-"):  # runs of 0.1.0 may have such a name
            raise ConfigError(f"run name '{name}' begins with a dash, and other commands take that for an option")
        contents = {NUMERICS_FILE: encode_document(numerics), CONFIG_FILE: StoredConfig(config).encode()}
        return cls._publish(_open_storage(storage), name, contents)

    @classmethod
    def _publish(cls, parent: Folder, name: str, contents: Mapping[str, bytes]) -> RunDirectory:
        folder = parent.child(name)
        has_remains = check_place(folder)
        fill = partial(_fill, contents=contents)
        try:
            if has_remains:
                fill(folder)
            else:
                parent.publish(name, fill)
        except StorageError:
            if folder.size_bytes(CONFIG_FILE) is not None:  # where folders are renamed, this is how a race ends
                raise _make_taken_error(folder) from None
            raise
        run = cls(folder)
        run._unchanging = dict(contents)
        return run

    @classmethod
    def open(cls, url: str) -> RunDirectory:
        """Return the run at `url`; raises CheckpointError if there is none, saying which runs are near."""
        folder = open_folder(url.rstrip("/") or url)
        if folder.size_bytes(CONFIG_FILE) is None:
            raise CheckpointError(describe_missing_run(folder, CONFIG_FILE))
        return cls(folder)

    @staticmethod
    def exists(storage: str, name: str) -> bool:
        """Return whether `storage` holds a run of that name."""
        validate_name(name)
        return _open_storage(storage).child(name).size_bytes(CONFIG_FILE) is not None

    @staticmethod
    def may_create(storage: str, name: str) -> bool:
        """Return whether `create` would make a run of that name: nothing is there, or the beginning of one."""
        try:
            check_place(_open_storage(storage).child(name))
        except CheckpointError:
            return False
        return True

    @staticmethod
    def list_names(storage: str) -> list[str]:
        """Return the sorted names of the runs in `storage`; [] if it does not exist."""
        return list_runs(_open_storage(storage), CONFIG_FILE)

    def read_config(self) -> Config:
        """Return the configuration of the run; raises CheckpointError if it is damaged or of a newer distbp."""
        return self._read_stored_config().config

    def owns(self, recipe_digest: str) -> bool:
        """Return whether a checkpoint that names this digest is of this run's recipe."""
        return self._read_stored_config().owns(recipe_digest)

    def change_recipe(self, recipe: Recipe) -> None:
        """Write another recipe into config.yaml, which this run's checkpoints belong to as well.

        If its epochs differ the run has not ended any more, so the result goes first.
        """
        stored = self._read_stored_config()
        if stored.config.recipe.epochs != recipe.epochs:
            self.folder.remove(RESULT_FILE)
        content = stored.with_recipe(recipe).encode()
        self.folder.write(CONFIG_FILE, content)
        self._unchanging[CONFIG_FILE] = content

    def _read_stored_config(self) -> StoredConfig:
        content = self._read(CONFIG_FILE)
        if self._decoded is None or self._decoded[0] != content:  # YAML is slow: it took half of a small fit
            self._decoded = (content, decode_config(content, join_url(self.url, CONFIG_FILE)))
        return self._decoded[1]

    def read_numerics(self) -> dict[str, Any]:
        """Return the numerics fingerprint the run was started with."""
        return self._decode(NUMERICS_FILE, self._read(NUMERICS_FILE))

    def copy_to(self, storage: str) -> RunDirectory:
        """Return a new run of the same name, configuration and numerics in another storage; raises StorageError.

        What this object has read or written before is not read again.
        """
        contents = {name: self._unchanging.get(name) or self._read(name) for name in (NUMERICS_FILE, CONFIG_FILE)}
        return self._publish(_open_storage(storage), self.name, contents)

    def write_result(self, result: Mapping[str, object]) -> None:
        """Write or replace result.json, sealed; numbers that are not finite become strings such as "NaN"."""
        values = decode_object(encode_document({**result, WRITTEN_BY: describe_writer()}))  # as a reader will see them
        content = encode_document({**values, RESULT_SEAL: seal(values)})
        persist(lambda: self.folder.write(RESULT_FILE, content), self.folder.patience_s)

    def read_result(self) -> dict[str, Any] | None:
        """Return the result, None if the run has not ended.

        Raises CheckpointError if it was changed since, or a newer distbp wrote it.
        """
        content = self.folder.read(RESULT_FILE)
        if content is None:
            return None
        try:
            values = decode_object(content)
            if sentence := describe_newer(f"'{join_url(self.url, RESULT_FILE)}'", values.get(WRITTEN_BY)):
                raise CheckpointError(sentence)
            values = check_seal(values, RESULT_SEAL)
            return {name: value for name, value in values.items() if name != WRITTEN_BY}
        except ValueError as error:
            raise CheckpointError(
                f"'{join_url(self.url, RESULT_FILE)}' is damaged: {error}; remove it, and the command that trained "
                "the run writes it again"
            ) from None

    def read_steps(self) -> list[StepRecord]:
        """Return one record a step, ascending: the last written of each, none of a part that was abandoned."""
        return parse_steps(self.folder.read(STEPS_FILE) or b"", join_url(self.url, STEPS_FILE))

    def read_checksums(self) -> dict[int, int]:
        """Return a number for the checksum of each logged step, by step: equal numbers for equal checksums."""
        return parse_checksums(self.folder.read_lines(STEPS_FILE), join_url(self.url, STEPS_FILE))

    def count_steps(self) -> int:
        """Return the last step that the log tells of, 0 if there is none, without reading the whole log."""
        try:
            return last_step(self.folder.read_end(STEPS_FILE, NUM_END_BYTES) or b"")
        except ValueError as error:
            raise CheckpointError(
                f"the last line of '{join_url(self.url, STEPS_FILE)}' is damaged: {error}; remove the line"
            ) from None

    def read_events(self) -> list[dict[str, Any]]:
        """Return the events in the order they happened; each has at least `time` and `kind`."""
        return parse_events(self.folder.read(EVENTS_FILE) or b"", join_url(self.url, EVENTS_FILE))

    def lock(self, heartbeat_s: float = HEARTBEAT_S) -> RunLock:
        """Return a lock to enter with `with`: only one driver at a time may write to a run."""
        self._lock = RunLock(self._unguarded, heartbeat_s)
        self.folder = self._unguarded.guarded(self._lock.guard)
        return self._lock

    def is_locked(self) -> bool:
        """Return whether a living driver, anywhere, holds the lock."""
        return is_driver_alive(self.folder)

    @property
    def holds_lock(self) -> bool:
        """Whether the lock was taken with this object and is held."""
        return self._lock is not None and self._lock.is_held

    @cached_property
    def outbox(self) -> Outbox:
        """What the run's logs and checkpoints are written with; made for the first of them, never for reading."""
        return Outbox(self.folder, self.check_lock)

    def check_lock(self) -> None:
        """Raise CheckpointError if a lock taken with this object was lost to another driver."""
        if self._lock is not None:
            self._lock.check()

    def _read(self, name: str) -> bytes:
        content = self.folder.read(name)
        if content is None:
            raise CheckpointError(f"run '{self.url}' has no {name}; was it copied incompletely? copy it again")
        self._unchanging[name] = content
        return content

    def _decode(self, name: str, content: bytes) -> dict[str, Any]:
        try:
            return decode_object(content)
        except ValueError as error:
            raise CheckpointError(f"'{join_url(self.url, name)}' is damaged: {error}; expected JSON") from None


def _open_storage(storage: str) -> Folder:
    folder = open_folder(storage)
    if folder.is_file():
        raise StorageError(f"storage '{storage}' is a file; expected a folder, choose another storage")
    return folder


def check_place(folder: Folder) -> bool:
    """Return whether a killed driver left the beginning of a run in `folder`; raises unless a run may be made there."""
    names = [name for name in folder.names() if not name.startswith(TEMPORARY_PREFIX)]
    if CONFIG_FILE in names:
        raise _make_taken_error(folder)
    if folder.is_file() or not {*names} <= {NUMERICS_FILE}:
        what = f"a folder with {', '.join(names[:3])} and no {CONFIG_FILE}" if names else "a file"
        raise CheckpointError(f"'{folder.url}' is {what}, not a run; move or remove it, or choose another name")
    return bool(names)


def _fill(folder: Folder, contents: Mapping[str, bytes]) -> None:
    """Write the files of a new run; of several drivers that do so at once on an object store, one succeeds."""
    folder.write_new(NUMERICS_FILE, contents[NUMERICS_FILE])
    if not folder.write_new(CONFIG_FILE, contents[CONFIG_FILE]):
        raise _make_taken_error(folder)
    if folder.read(NUMERICS_FILE) != contents[NUMERICS_FILE]:  # it was there, from another driver
        folder.write(NUMERICS_FILE, contents[NUMERICS_FILE])


def _make_taken_error(folder: Folder) -> RunTakenError:
    return RunTakenError(f"'{folder.url}' already exists; resume it, or choose another name")
