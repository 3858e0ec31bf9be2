"""The folder that travels with a job: distbp itself, the configuration, and what it names by relative paths."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

from distbp.backends.ray.internals import MAX_PACKAGE_BYTES
from distbp.config import Config, dump_yaml, to_values
from distbp.data.blocks.preparing import is_in_blocks
from distbp.data.files import list_files
from distbp.data.sources import is_table
from distbp.errors import ConfigError, DataError

PACKAGE_DIR = Path(__file__).resolve().parent.parent
CONFIG_FILE = "config.yaml"
NEVER_SENT = (".*", "*.pem", "*.key", "*.p12", "*.pfx", "id_rsa*", "id_ed25519*", "id_ecdsa*", "credentials*")
"""Names in a model's package that stay here: what begins with a dot, such as .env and .git, and keys."""
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_OVERHEAD_BYTES = 1000
"""What an archive needs for a file beside its bytes: its name twice, its size and time."""


@dataclass(frozen=True)
class Package:
    """What was packed. names: data and modules of the user's. left_out: what lies there and must not be sent."""

    names: tuple[str, ...]
    left_out: tuple[str, ...]
    num_bytes: int

    def describe(self) -> str:
        """Return what is sent and how large it is, in one sentence."""
        what = ", ".join(("distbp", "the configuration", *self.names))
        stays = f"; left here: {', '.join(self.left_out)}" if self.left_out else ""
        return f"sending {self.num_bytes / 1e6:,.1f} MB: {what}{stays}"


def pack(config: Config, folder: Path) -> Package:
    """Write all that a job needs into the empty `folder`, with this version of distbp.

    Data at a relative path are sent and keep that path, so the recipe stays the same. Data at an absolute path are read
    on the cluster. Modules of a model or loss of the user's own are sent if they lie in the current folder.

    Raises ConfigError where the run would be lost with the job's folder, DataError where data cannot travel.
    """
    check_storage(config.placement.storage)
    data = list_travelling_data(config)
    modules = _find_modules(_names_of_objects(config))
    shutil.copytree(PACKAGE_DIR, folder / "distbp", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    placement = config.placement.model_copy(update={"backend": "ray", "address": None})  # that of the job's cluster
    values = to_values(config.model_copy(update={"placement": placement}))  # settled where the data are read
    (folder / CONFIG_FILE).write_text(dump_yaml(values), encoding="utf-8")
    left_out: list[str] = []
    files = [*data, *(file for module in modules for file in _list_files(module, left_out))]
    _check_size(_size(files))
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / file)
    return Package((*map(str, data), *map(str, modules)), tuple(left_out), _size([folder]))


def check_storage(storage: str) -> None:
    """Raise ConfigError unless `storage` outlives the job: an absolute path or a URL."""
    if storage.startswith("memory:") or ("://" not in storage and not Path(storage).expanduser().is_absolute()):
        raise ConfigError(
            f"storage '{storage}' would vanish with the job; give --storage a URL such as s3://bucket/runs, "
            "or an absolute path that every node shares"
        )


def list_travelling_data(config: Config) -> list[Path]:
    """Return the files that the recipe reads by relative paths: all that the readers ask for, and no others.

    Raises DataError if one is not here, or if they are too large to travel.
    """
    data = config.recipe.data
    found = [] if _stays(data.source) else list_files(data.source, data.target)
    if isinstance(data.validation, str) and not _stays(data.validation):
        found += list_files(data.validation, held_out=True)
    found += _list_weights(config.recipe.model.initial)
    paths = list(dict.fromkeys(path for path in found if not path.is_absolute()))
    for path in paths:
        _check_here(path)
    _check_size(_size(paths))
    return paths


def _stays(source: str) -> bool:
    """Return whether data are in blocks, which are read on the cluster. Raises DataError for a relative path."""
    if not is_in_blocks(source):
        return False
    if "://" not in source and not Path(source).expanduser().is_absolute():
        raise DataError(
            f"'{source}' holds data in blocks, which do not travel with a job; name them by a URL, or by an absolute "
            "path where every node can read them"
        )
    return True


def _list_weights(initial: str | None) -> list[Path]:
    """Return the files of the weights to start from, which are one file or a run's folder here."""
    if initial is None or "://" in initial:
        return []
    path = Path(initial).expanduser()
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def list_requirements(config: Config) -> list[str]:
    """Return what a run needs besides Ray, for nodes that have only Ray. Raises ConfigError if that is not known."""
    try:
        found = metadata.requires("distbp") or []
    except metadata.PackageNotFoundError:
        raise ConfigError("distbp is not installed here, so what it needs is not known; pip install it first") from None
    data = config.recipe.data
    extras = {extra for name in (data.source, data.validation) if isinstance(name, str) for extra in _list_extras(name)}
    markers = ("", *(f'extra == "{extra}"' for extra in extras))
    split = [[part.strip() for part in text.partition(";")] for text in found]
    needed = [requirement for requirement, _, marker in split if marker.replace("'", '"') in markers]
    return [text for text in needed if re.split(r"[\[<>=~! ]", text)[0].lower() != "ray"]


def _list_extras(source: str) -> set[str]:
    """Return the extras that reading a source takes; what a folder on the cluster holds is not known here."""
    protocol, colon, _ = source.partition("://")
    extras = {_EXTRAS[protocol]} if colon and protocol in _EXTRAS else set()
    is_folder = not Path(source).suffix and Path(source).expanduser().is_absolute()
    return extras | ({"tables"} if is_table(source) or is_folder or is_in_blocks(source) else set())


def _names_of_objects(config: Config) -> list[str]:
    model = config.recipe.model
    return [name for name in (model.function, model.torch, model.loss) if name is not None and ":" in name]


def _check_here(path: Path) -> None:
    if ".." in path.parts:
        raise DataError(f"data '{path}' lies outside the current directory; submit from a folder that holds it")
    if not path.exists():
        raise DataError(
            f"data '{path}' does not exist here; a relative path travels with the job, "
            "an absolute one is read on the cluster"
        )


def _check_size(num_bytes: int) -> None:
    """Raise DataError for more than Ray's job server takes, together with distbp."""
    most = MAX_PACKAGE_BYTES - _size([PACKAGE_DIR])
    if num_bytes > most:
        raise DataError(
            f"{num_bytes:,} bytes are too many to travel with a job (at most {most:,}); put data where every node can "
            "read them and name them by an absolute path"
        )


def _find_modules(objects: list[str]) -> list[Path]:
    """Return the modules and packages of each `module:object` that lie here, and those here that they import.

    What is not here is meant to be installed on the cluster. Nothing is run: the text says what it imports.
    """
    found: list[Path] = []
    waiting = [name.partition(":")[0].partition(".")[0] for name in objects]
    seen = {"distbp"}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for path in (Path(f"{name}.py"), Path(name)):
            if path.exists():
                found.append(path)
                waiting += _list_imports(path)
    return found


def _list_imports(module: Path) -> Iterator[str]:
    """Yield the first part of each name that the files of a module or package import."""
    for file in sorted(module.rglob("*.py")) if module.is_dir() else [module]:
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue  # whoever imports it says what is wrong
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
                yield node.module.partition(".")[0]


def _list_files(path: Path, left_out: list[str]) -> Iterator[Path]:
    """Yield the files of a module or package that may travel, and note the others."""
    if path.name == "__pycache__":
        return
    if any(fnmatch(path.name, pattern) for pattern in NEVER_SENT) or not path.resolve().is_relative_to(Path.cwd()):
        left_out.append(str(path))
    elif path.is_dir():
        for child in sorted(path.iterdir()):
            yield from _list_files(child, left_out)
    elif path.is_file():
        yield path


def _size(paths: list[Path]) -> int:
    """Return how many bytes these files and folders take in an archive, which Ray does not compress."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    travelling = (file for file in files if file.is_file() and "__pycache__" not in file.parts)
    return sum(file.stat().st_size + _OVERHEAD_BYTES for file in travelling)
