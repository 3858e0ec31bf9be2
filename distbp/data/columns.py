"""Which columns of a table are features and which are targets. Pure: names in, names out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from distbp.data.dialect import find_spelling
from distbp.data.raw import Wanted
from distbp.data.reading import list_names
from distbp.errors import DataError
from distbp.text.sentences import suggest

TARGET_NAMES = ("target", "label", "class", "y")
PANDAS_INDEX = re.compile(r"__index_level_\d+__")


def choose_columns(names: Sequence[str], wanted: Wanted, origin: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the feature columns and the target columns (none if not needed), in the order in which to read them.

    Raises DataError for a column that is missing, and for names that do not tell columns apart.
    """
    names = [name for name in names if not PANDAS_INDEX.fullmatch(name)]
    _check_names(names, wanted, origin)
    targets = _choose_targets(names, wanted, origin)
    if wanted.feature_names is not None:
        features = tuple(find_spelling(name, names) for name in wanted.feature_names)
        check_present(features, names, origin, "feature ")
    else:
        features = tuple(name for name in names if name not in targets and name != wanted.weight)
    if not features:
        raise DataError(f"{origin} has no column besides the target {list_names(targets)}; expected features too")
    return features, targets if wanted.need_targets else ()


def _check_names(names: Sequence[str], wanted: Wanted, origin: str) -> None:
    if "" in names and not wanted.any_names:
        raise DataError(
            f"column {names.index('') + 1} of {origin} has no name; name it in the header, or drop it "
            f"(pandas writes such an index column unless to_csv gets index=False)"
        )
    doubles = [name for name in dict.fromkeys(names) if names.count(name) > 1] if len(set(names)) < len(names) else []
    if doubles:
        raise DataError(f"{origin} has more than one column named {list_names(doubles)}; column names must differ")


def _choose_targets(names: Sequence[str], wanted: Wanted, origin: str) -> tuple[str, ...]:
    target = wanted.target if wanted.target is not None else wanted.known_targets
    if target is None:
        return _find_conventional(names, wanted, origin)
    targets = tuple(find_spelling(name, names) for name in ((target,) if isinstance(target, str) else target))
    if not wanted.need_targets:
        return tuple(name for name in targets if name in names)
    if len(set(targets)) < len(targets):
        raise DataError(f"target={list(targets)} names a column twice; name each target once")
    check_present(targets, names, origin, "target ")
    return targets


def _find_conventional(names: Sequence[str], wanted: Wanted, origin: str) -> tuple[str, ...]:
    found = tuple(name for name in TARGET_NAMES if name in names)
    if len(found) == 1 or not wanted.need_targets:
        return found
    if found:
        raise DataError(f"{origin} has the columns {list_names(found)}, each of which could be the target; set target")
    hint = " (the names are numbers: is the header line missing?)" if all(map(_is_number, names)) else ""
    raise DataError(f"{origin} has no target column, its columns are {list_names(names)}{hint}; set target to one")


def check_present(expected: Sequence[str], names: Sequence[str], origin: str, role: str = "") -> None:
    """Raise DataError for columns that are not among `names`. role: a word before "column", with a space."""
    present = set(names)
    missing = [name for name in expected if name not in present]
    if missing:
        advice = suggest(missing[0], names) or f"; its columns are {list_names(names)}"
        raise DataError(f"{origin} has no {role}column {list_names(missing)}{advice}")


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
