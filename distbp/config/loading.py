"""From a YAML file and `--set` overrides to a Config, with each mistake in a sentence."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pydantic
import yaml

from distbp.config.config import Config
from distbp.config.findings import MAX_SHOWN, describe_validation_error, name_kind
from distbp.config.identity import DEFAULTS_OF_0_1_0, complete
from distbp.config.placement import Placement
from distbp.config.recipe import SWITCHES
from distbp.config.values import CHOSEN_WHERE_UNSET, without
from distbp.config.yaml_text import parse_yaml
from distbp.errors import ConfigError
from distbp.installation import describe_newer
from distbp.text.sentences import find_near, first_line

WRITTEN_BY = "written_by"


"""The key under which a run's config.yaml says which distbp wrote it."""


def load_config(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Return the configuration in the YAML file at `path` (None: all defaults), with `overrides` applied.

    An override reads `recipe.optimizer.learning_rate=0.05`; its value is YAML. A relative path of data is looked for
    in the current folder, then beside the file at `path`. A run's own config.yaml is such a file too.

    Raises ConfigError for a file that cannot be read and for anything in it that is not understood.
    """
    values = {} if path is None else _complete_old(_read_yaml(Path(path)))
    for override in overrides:
        _apply_override(values, override)
    if path is None:
        return parse_config(values)
    if sentence := describe_newer(f"'{path}'", values.pop(WRITTEN_BY, None)):
        raise ConfigError(sentence)
    config = parse_config(values, origin=f"'{path}'")
    for field in ("function", "torch", "loss"):
        _check_module(field, getattr(config.recipe.model, field), Path(path).parent)
    return _find_data_beside(config, Path(path).parent)


def _complete_old(values: dict[str, Any]) -> dict[str, Any]:
    """Return a whole recipe, as a run or `distbp config` of any version wrote it, with what it did not have yet.

    What such a recipe lacks did not exist then, so it has the first default, not what is chosen today. But what is
    left to the data is not written (`distbp.config.values`), and stays open.
    """
    recipe = values.get("recipe")
    if not isinstance(recipe, dict):
        return values
    missing = [name for name in DEFAULTS_OF_0_1_0 if not _has(recipe, name.split("."))]
    if not set(missing) <= set(CHOSEN_WHERE_UNSET):
        return values
    return {**values, "recipe": without(complete(recipe), missing)}


def _has(values: object, path: list[str]) -> bool:
    if not path:
        return True
    return isinstance(values, dict) and path[0] in values and _has(values[path[0]], path[1:])


def parse_config(values: Mapping[str, Any], origin: str = "the configuration") -> Config:
    """Return `values` as a Config; raises ConfigError with one sentence for each of the first three findings."""
    try:
        return Config.model_validate(values)
    except pydantic.ValidationError as error:
        raise ConfigError(describe_validation_error(error, Config, origin)) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read configuration '{path}': {error.strerror}; {_advise_path(path)}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"configuration '{path}' is not UTF-8 text; expected a YAML file") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"configuration '{path}' is not valid YAML: {_describe_yaml_error(error)}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"configuration '{path}' holds {name_kind(values)}; expected the keys recipe and placement")
    return values


def _find_data_beside(config: Config, folder: Path) -> Config:
    """Return the configuration with each path of data that is not in the current folder, but in this one."""
    data = config.recipe.data
    names = {"source": data.source} if data.source != "digits" else {}
    if isinstance(data.validation, str) and data.validation != "digits":
        names["validation"] = data.validation
    if isinstance(data.target, str) and data.target.endswith(".npy"):
        names["target"] = data.target
    found = {field: _shorten(folder / name) for field, name in names.items() if _is_only_in(folder, name)}
    recipe = config.recipe.model_copy(update={"data": data.model_copy(update=found)})
    return config.model_copy(update={"recipe": recipe})


def _is_only_in(folder: Path, name: str) -> bool:
    try:
        return not Path(name).expanduser().exists() and (folder / name).exists()
    except (OSError, ValueError, RuntimeError):  # no path at all; who reads the data says so
        return False


def _shorten(path: Path) -> str:
    """Return a path relative to the current folder where it lies in it: so it travels with a job."""
    whole = Path(os.path.normpath(Path.cwd() / path))
    if not whole.exists():  # a link on the way leads elsewhere
        return str(path)
    return str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole)


def _check_module(field: str, value: str | None, folder: Path) -> None:
    """Raise ConfigError for a model's module that lies beside the configuration, from where Python does not import."""
    module, colon, _ = (value or "").partition(":")
    name = module.partition(".")[0] if colon else ""
    beside = [path for path in (folder / f"{name}.py", folder / name / "__init__.py") if name and path.exists()]
    if beside and name not in sys.modules and not _is_importable(name):
        raise ConfigError(
            f"model.{field}={value}: '{beside[0]}' is not where Python imports from; run distbp in the folder "
            f"'{folder}', or set PYTHONPATH={folder.resolve()}"
        )


def _is_importable(name: str) -> bool:
    """Return whether a model's module is found: installed, or in the current folder, where it alone is looked for."""
    if importlib.util.find_spec(name) is not None:
        return True
    with suppress(OSError):  # the folder was removed
        return PathFinder.find_spec(name, [str(Path.cwd())]) is not None
    return False


def _advise_path(path: Path) -> str:
    if "=" in path.name:
        return f"did you mean --set {path}?"
    try:
        near = find_near(path.name, [sibling.name for sibling in path.parent.iterdir() if sibling.exists()], cutoff=0.8)
    except OSError:
        near = None
    return f"did you mean '{path.with_name(near)}'?" if near and not path.exists() else "check the path"


def _describe_yaml_error(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or first_line(error)
    shown = f"{problem}"[:MAX_SHOWN]
    return f"{shown} (line {mark.line + 1})" if mark else shown


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: expected KEY=VALUE, for example recipe.optimizer.learning_rate=0.05")
    if parts[0] not in Config.model_fields:
        parts = [_section_of(parts[0]), *parts]
    try:
        value = parse_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML: {_describe_yaml_error(error)}") from None
    for part in parts[:-1]:
        inner = values.get(part)
        if part in SWITCHES and isinstance(inner, bool):
            inner = values[part] = SWITCHES[part](inner)
        if inner is None:
            inner = values[part] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: '{part}' is {name_kind(inner)}, not a section")
        values = inner
    before = values.get(parts[-1])
    if parts[-1] in SWITCHES and isinstance(value, bool) and isinstance(before, dict):
        value = {**before, **SWITCHES[parts[-1]](value)}
    values[parts[-1]] = value


def _section_of(key: str) -> str:
    """`placement` for a key of Placement, else `recipe`, so that `--set epochs=3` does what it says."""
    return "placement" if key in Placement.model_fields else "recipe"
