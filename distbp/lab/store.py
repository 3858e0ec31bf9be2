"""The folder of a study: what has been measured is stored at once, one line each, and never measured again."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from distbp.config import WRITTEN_BY, Recipe
from distbp.config.identity import complete
from distbp.errors import ConfigError, StorageError
from distbp.installation import describe_newer, describe_writer
from distbp.machine.aside import replace_file
from distbp.text.json_text import decode_object, encode_document, encode_line

RESULTS_FILE = "trials.jsonl"
IDENTITY_FILE = "study.json"


def is_same_study(stored: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Return whether two identities, of which another version may have written one, are of the same study.

    A recipe counts as what it sets away from the defaults, a setting that one version does not have as None. Data are
    compared where both say which: 0.1.0 did not.
    """
    names = (stored.keys() | ours.keys()) - {WRITTEN_BY, "recipe"}
    if not ("data" in stored and "data" in ours):
        names -= {"data"}
    return all(stored.get(name) == ours.get(name) for name in names) and _digest(stored) == _digest(ours)


def _digest(identity: Mapping[str, Any]) -> str | None:
    """Return the digest of the recipe in a study's identity, None if there is none or it is damaged."""
    try:
        return Recipe.model_validate(complete(identity["recipe"])).digest
    except (KeyError, TypeError, ValueError):
        return None


class Store:
    """Results by key, in `trials.jsonl`; a line torn by a crash is dropped, and one process at a time writes."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]):
        """Open or make the folder of the study that `identity` describes.

        Raises ConfigError if it holds another study or is in use, StorageError if it cannot be written.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / RESULTS_FILE).open("a+b")
        except OSError as error:
            raise StorageError(f"cannot write to '{folder}': {error.strerror}; choose another folder") from None
        try:
            self._lock()
            self._check_identity(identity)
            self._results = self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self._results

    def __len__(self) -> int:
        return len(self._results)

    def result(self, key: str) -> Any:
        """Return what was stored under `key`, as JSON values."""
        return self._results[key]["result"]

    def seconds(self, key: str) -> float:
        """Return how long measuring it took."""
        return float(self._results[key]["seconds"])

    def seconds_spent(self, prefix: str) -> float:
        """Return the seconds of all measurements together whose keys begin with `prefix`."""
        return sum(self.seconds(key) for key in self._results if key.startswith(prefix))

    def add(self, key: str, result: Any, seconds: float) -> None:
        """Store a result; when this returns it survives a crash."""
        values = {"key": key, "seconds": round(seconds, 4), "result": result}
        try:
            self._file.write(encode_line(values).encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(f"cannot write to '{self.folder / RESULTS_FILE}': {error.strerror}") from None
        self._results[key] = values

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"another process is working in '{self.folder}'; wait for it, or choose another folder"
            ) from None

    def _check_identity(self, identity: Mapping[str, Any]) -> None:
        path = self.folder / IDENTITY_FILE
        text = encode_document({**identity, WRITTEN_BY: describe_writer()})
        if not path.exists():
            with replace_file(path) as aside:
                aside.write_bytes(text)
            return
        stored: dict[str, Any] = {}
        with suppress(ValueError):
            stored = decode_object(path.read_bytes())
        if sentence := describe_newer(f"the study in '{self.folder}'", stored.get(WRITTEN_BY)):
            raise StorageError(sentence)
        if stored and is_same_study(stored, decode_object(text)):
            return
        raise ConfigError(
            f"'{self.folder}' holds a study with other settings or of other data (see {IDENTITY_FILE} there); "
            "choose another folder"
        )

    def _read(self) -> dict[str, dict[str, Any]]:
        """Return what earlier sessions stored, and cut off a torn last line so that the next one starts cleanly."""
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
        found = {}
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                values = decode_object(line)
                found[values["key"]] = values
            except (ValueError, KeyError) as error:
                raise StorageError(
                    f"line {number} of '{self.folder / RESULTS_FILE}' is damaged ({error}); remove that line"
                ) from None
        return found
