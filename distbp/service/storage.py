"""What runs a storage holds and how far each is."""

from __future__ import annotations

from dataclasses import dataclass

from distbp.errors import StorageError
from distbp.run import RunDirectory
from distbp.run.storage.folder import join_url
from distbp.text.masking import mask_secrets


@dataclass(frozen=True)
class StoredRun:
    """One run.

    state: SUCCEEDED with a result, RUNNING while a driver holds its lock, else DIVERGED, STOPPED or DAMAGED.
    """

    run: str
    state: str
    steps: int
    validation_accuracy: float | None
    digest: str | None
    note: str | None = None


def list_stored_runs(storage: str) -> list[StoredRun]:
    """Return the runs in a path or URL, by name; a damaged one is listed as that. Raises StorageError."""
    return [_look_at(join_url(storage, name)) for name in RunDirectory.list_names(storage)]


def _look_at(url: str) -> StoredRun:
    shown = mask_secrets(url)
    try:
        run = RunDirectory.open(url)
        result = run.read_result()
        if result is not None:
            return StoredRun(shown, "SUCCEEDED", result["steps"], result.get("validation_accuracy"), result["digest"])
        state = "RUNNING" if run.is_locked() else "DIVERGED" if _has_diverged(run) else "STOPPED"
        return StoredRun(shown, state, run.count_steps(), None, None)
    except (StorageError, KeyError) as error:
        return StoredRun(shown, "DAMAGED", 0, None, None, note=str(error))


def _has_diverged(run: RunDirectory) -> bool:
    """Return whether the last session of a run ended because its loss was no finite number."""
    endings = [event for event in run.read_events() if event["kind"] in ("started", "ended")]
    return bool(endings) and endings[-1].get("error") == "DivergedError"
