"""Names of runs: which are allowed, which exist, which is free, and what to say when one is not found."""

from __future__ import annotations

import itertools
import re
from collections.abc import Set

from distbp.errors import ConfigError
from distbp.run.storage.folder import Folder, join_url
from distbp.run.storage.opening import open_folder

MAX_NAME_LENGTH = 100
MAX_NAMES_SHOWN = 5


def validate_name(name: str) -> None:
    """Raise ConfigError unless `name` is safe as a folder name on every storage."""
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name) or len(name) > MAX_NAME_LENGTH:
        shown = name if len(name) <= MAX_NAME_LENGTH else f"{name[:20]}... ({len(name)} characters)"
        raise ConfigError(
            f"run name {shown!r} cannot be used; expected 1 to {MAX_NAME_LENGTH} of A-Z a-z 0-9 - _ . "
            "and no dot at the start"
        )


def next_name(storage: str, stem: str, taken: Set[str] = frozenset()) -> str:
    """Return `stem` if nothing in `storage` or `taken` has that name, else the first free of stem-2, stem-3, ..."""
    validate_name(stem)
    taken = {*taken, *open_folder(storage).names()}
    candidates = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    name = next(candidate for candidate in candidates if candidate not in taken)
    validate_name(name)
    return name


def list_runs(storage: Folder, marker: str) -> list[str]:
    """Return the names of the folders in `storage` that hold a file `marker`."""
    visible = [name for name in storage.names() if not name.startswith(".")]
    return [name for name in visible if storage.child(name).size_bytes(marker) is not None]


def describe_missing_run(folder: Folder, marker: str) -> str:
    """Return why `folder` is no run, with the runs that may have been meant."""
    if folder.is_file():
        return f"'{folder.url}' is a file, not a run; expected a folder with a {marker}"
    inside = list_runs(folder, marker)
    if inside:
        example = join_url(folder.url, inside[0])
        return f"'{folder.url}' is no run but holds runs: {_show(inside)}; name one of them, for example '{example}'"
    fact = f"'{folder.url}' has no {marker}" if folder.names() else f"there is no run '{folder.url}'"
    beside = list_runs(folder.parent, marker)
    advice = f"runs beside it: {_show(beside)}" if beside else f"no run is in '{folder.parent.url}' either"
    return f"{fact}; {advice}; check the path"


def _show(names: list[str]) -> str:
    more = len(names) - MAX_NAMES_SHOWN
    return ", ".join(names[:MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
