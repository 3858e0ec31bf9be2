"""Weights to start from: a safetensors file with the model's own names, or another run's parameters."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from distbp.errors import CheckpointError, ConfigError
from distbp.nn.layout import Layout
from distbp.run import Checkpoint, CheckpointStore, RunDirectory
from distbp.run.storage.folder import parent_url
from distbp.run.storage.opening import open_folder

SUFFIX = ".safetensors"
_PREFIX = "parameters/"


def load_initial(source: str, layout: Layout, dtype: str) -> NDArray:
    """Return the flat vector (num_parameters,) with the weights in `source`, a path or URL.

    Names and shapes must be the model's, all of them; tied weights may stand under each of their names. Of a run the
    final parameters are taken, or the newest.

    Raises ConfigError if the tensors are not the model's, CheckpointError if there are none to read.
    """
    tensors = _read_file(source) if source.endswith(SUFFIX) else _read_run(source)
    _check_names(source, layout, tensors)
    names = {name: alias for alias, name in layout.aliases}
    flat = np.empty(layout.num_parameters, dtype)
    for name, view in layout.views(flat).items():
        tensor = tensors[name] if name in tensors else tensors[names[name]]
        if tensor.shape != view.shape:
            raise ConfigError(f"model.initial={source}: '{name}' has shape {tensor.shape}, the model's is {view.shape}")
        view[...] = tensor
    _check_aliases(source, layout, tensors)
    return flat


def _read_file(source: str) -> dict[str, NDArray]:
    folder = open_folder(parent_url(source) or ".")
    content = folder.read(source.rpartition("/")[2])
    if content is None:
        raise CheckpointError(f"model.initial={source}: there is no such file; check the path")
    try:
        return dict(safetensors.numpy.load(content))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"model.initial={source} is no safetensors file of NumPy's dtypes ({error}); write it with "
            "safetensors.torch.save_file(module.state_dict(), ...) in float32 or float64"
        ) from None


def _read_run(source: str) -> dict[str, NDArray]:
    run = RunDirectory.open(source)
    checkpoint = _newest(run)
    if checkpoint is None:
        raise CheckpointError(f"model.initial={source}: the run has no checkpoint yet; train it first")
    named = checkpoint.tensors.items()
    return {name.removeprefix(_PREFIX): tensor for name, tensor in named if name.startswith(_PREFIX)}


def _newest(run: RunDirectory) -> Checkpoint | None:
    store, result = CheckpointStore(run, keep=1), run.read_result()
    final_step = None if result is None else result.get("final_step")
    return store.load(final_step) if isinstance(final_step, int) else store.load_latest()


def _check_names(source: str, layout: Layout, tensors: Mapping[str, NDArray]) -> None:
    """Refuse names that the model does not have, and names that are missing."""
    aliases = dict(layout.aliases)
    names = [entry.name for entry in layout.entries]
    unknown = [name for name in tensors if name not in names and name not in aliases]
    present = {aliases.get(name, name) for name in tensors}
    missing = [name for name in names if name not in present]
    if not unknown and not missing:
        return
    parts = [f"'{name}' is no tensor of the model{_suggest(name, missing or names)}" for name in unknown[:3]]
    parts += [f"'{name}' is missing" for name in missing[:3] if not unknown]
    more = max(len(unknown), len(missing)) - 3
    raise ConfigError(f"model.initial={source}: {'; '.join(parts)}" + (f" (and {more} more)" if more > 0 else ""))


def _suggest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean '{near[0]}'?" if near else f"; it has {', '.join(known[:3])}"


def _check_aliases(source: str, layout: Layout, tensors: Mapping[str, NDArray]) -> None:
    for alias, name in layout.aliases:
        both = alias in tensors and name in tensors
        if both and not np.array_equal(tensors[alias], tensors[name], equal_nan=True):
            raise ConfigError(
                f"model.initial={source}: '{alias}' and '{name}' differ, and the model ties them; store the same values"
            )
