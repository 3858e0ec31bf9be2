"""What `distbp export` writes: each format's content, and the file that is replaced only when all of it is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy

from distbp.config import Config, describe_config
from distbp.errors import ConfigError, StorageError
from distbp.export.onnx_graph import to_onnx
from distbp.installation import describe_writer
from distbp.machine.aside import replace_file
from distbp.prediction.trained_run import TrainedRun
from distbp.text.sentences import find_near


def export_run(run: TrainedRun, to: str, out: str) -> int:
    """Write a run's network as `to` says, one of FORMATS, into the file `out`, and return its size in bytes.

    Raises ConfigError for another format, for what the format cannot hold, and where its library is missing;
    StorageError where the file cannot be written.
    """
    make = FORMATS.get(to)
    if make is None:
        near = find_near(to, FORMATS)
        advice = f"did you mean {near}?" if near else f"use {', '.join(FORMATS)}"
        raise ConfigError(f"--to {to} is no known format; {advice}")
    target = Path(out).expanduser()
    content = make(run)
    try:
        with replace_file(target) as aside:
            aside.write_bytes(content)
    except OSError as error:
        raise StorageError(
            f"cannot write '{out}': {error.strerror or error}; choose another place with --out"
        ) from error
    return len(content)


def _encode_onnx(run: TrainedRun) -> bytes:
    return to_onnx(run.network, {"digest": run.digest, "step": str(run.step)})


def _encode_safetensors(run: TrainedRun) -> bytes:
    """Return the tensors under the model's own names, with what is needed to use them as metadata."""
    layout, schema = run.network.model.layout, run.schema
    is_module = run.config.recipe.model.torch is not None
    named = layout.state_dict(run.network.flat) if is_module else run.parameters
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in named.items()}
    if schema.scaling.shift is not None and schema.scaling.scale is not None and not is_module:
        tensors |= {"scaling.shift": schema.scaling.shift, "scaling.scale": schema.scaling.scale}
    metadata = {
        **{name: str(value) for name, value in describe_writer().items()},
        "digest": run.digest,
        "model": json.dumps(run.config.recipe.model.model_dump(mode="json")),
        "schema": json.dumps(schema.to_json()),
    }
    return safetensors.numpy.save(tensors, metadata)


def _encode_config(run: TrainedRun) -> bytes:
    """Return the recipe with every field and its meaning; where it runs is left to whoever trains it again."""
    return describe_config(Config(recipe=run.config.recipe)).encode()


FORMATS: dict[str, Callable[[TrainedRun], bytes]] = {
    "onnx": _encode_onnx,
    "safetensors": _encode_safetensors,
    "config": _encode_config,
}
