"""The folder that travels with a job: distbp itself, the configuration, and what it names by relative paths."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from distbp.config import Config, dump_yaml
from distbp.errors import ConfigError, DataError

PACKAGE_DIR = Path(__file__).resolve().parent.parent
CONFIG_FILE = "config.yaml"
MAX_DATA_BYTES = 300_000_000
"""Ray keeps what travels in the memory of the head node, and refuses more than 500 MiB."""


def pack(config: Config, folder: Path) -> None:
    """Write into the empty `folder` all that a job needs: the version of distbp that runs there is this one.

    A relative data path travels and keeps its text, so the recipe stays the same; an absolute one is read there.
    So does the module of a model of the user's own, if it lies in the current directory.

    Raises ConfigError where the run would be lost with the job's folder, DataError where data cannot travel.
    """
    check_storage(config.placement.storage)
    shutil.copytree(PACKAGE_DIR, folder / "distbp", ignore=shutil.ignore_patterns("__pycache__"))
    placement = config.placement.model_copy(update={"backend": "ray", "address": None})  # that of the job's cluster
    values = config.model_copy(update={"placement": placement}).model_dump(mode="json")
    (folder / CONFIG_FILE).write_text(dump_yaml(values), encoding="utf-8")
    for path in list_travelling_data(config):
        _copy(path, folder / path)
    if config.recipe.model.function is not None:
        _copy_module(config.recipe.model.function, folder)


def check_storage(storage: str) -> None:
    """Raise ConfigError unless `storage` outlives the job: an absolute path or a URL."""
    if storage.startswith("memory:") or ("://" not in storage and not Path(storage).is_absolute()):
        raise ConfigError(
            f"storage '{storage}' would vanish with the job; give --storage a URL such as s3://bucket/runs, "
            "or an absolute path that every node shares"
        )


def list_travelling_data(config: Config) -> list[Path]:
    """Return the data that the recipe names by relative paths. Raises DataError if one is not here or too large."""
    paths = [Path(name) for name in _names_of_data(config) if "://" not in name and not Path(name).is_absolute()]
    for path in paths:
        if ".." in path.parts:
            raise DataError(f"data '{path}' lies outside the current directory; submit from a folder that holds it")
        if not path.exists():
            raise DataError(
                f"data '{path}' does not exist here; a relative path travels with the job, "
                "an absolute one is read on the cluster"
            )
    num_bytes = sum(map(_size, paths))
    if num_bytes > MAX_DATA_BYTES:
        raise DataError(
            f"data of {num_bytes:,} bytes are too many to travel with a job (at most {MAX_DATA_BYTES:,}); put them "
            "where every node can read them and name them by an absolute path or a URL"
        )
    return paths


def list_requirements() -> list[str]:
    """Return what distbp needs besides Ray, for nodes that have only Ray. Raises ConfigError if that is not known."""
    try:
        found = metadata.requires("distbp") or []
    except metadata.PackageNotFoundError:
        raise ConfigError("distbp is not installed here, so what it needs is not known; pip install it first") from None
    needed = [text for text in found if "extra ==" not in text]
    return [text for text in needed if re.split(r"[\[<>=~! ;]", text)[0].lower() != "ray"]


def _names_of_data(config: Config) -> Iterator[str]:
    data = config.recipe.data
    if data.source != "digits":
        yield data.source
    if isinstance(data.validation, str):
        yield data.validation
    if isinstance(data.target, str) and data.target.endswith(".npy"):
        yield data.target


def _copy_module(function: str, folder: Path) -> None:
    """Copy the module or package of `module:object` if it lies here; else it is meant to be installed there."""
    name = function.partition(":")[0].partition(".")[0]
    for path in (Path(f"{name}.py"), Path(name)):
        if path.exists():
            _copy(path, folder / path)


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(path, target)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
