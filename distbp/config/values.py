"""A Config as plain values that are read back as the same, also where it is settled only later.

Some fields have a default, and yet the data choose where nobody has set them (`distbp.config.settling`). To write
their default would be to set it, and that is another recipe. So what nobody has set is not written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from distbp.config.config import Config
from distbp.config.recipe import Recipe

CHOSEN_WHERE_UNSET = ("global_batch_size", "microbatch_size", "epochs", "optimizer.weight_decay")
"""Fields of a recipe that the data may choose: what counts is whether somebody has set them, not their default."""


def find_open(recipe: Recipe) -> list[str]:
    """Return those of CHOSEN_WHERE_UNSET that nobody has set."""
    is_set = set(_list_set(recipe))
    return [name for name in CHOSEN_WHERE_UNSET if name not in is_set]


def to_values(config: Config) -> dict[str, Any]:
    """Return `config` as JSON values without what is left open; parse_config reads them as the same configuration."""
    values = config.model_dump(mode="json")
    return {**values, "recipe": without(values["recipe"], find_open(config.recipe))}


def without(values: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Return nested values without those of these dotted names."""
    left = dict(values)
    for name in names:
        first, _, rest = name.partition(".")
        if rest:
            left[first] = without(left[first], [rest])
        else:
            del left[first]
    return left


def _list_set(section: BaseModel, path: str = "") -> Iterator[str]:
    """Yield the dotted names of what somebody has set in `section` and the sections below."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _list_set(value, f"{path}{name}.")
        elif name in section.model_fields_set:
            yield f"{path}{name}"
