"""Good files to be spoilt: configurations, data in every format, a run in the middle, lines of logs."""

from __future__ import annotations

import gzip
import signal
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from distbp import Placement, Recipe, train
from distbp.config import Config, describe_config
from distbp.errors import InterruptedRunError

CONFIGS = (
    describe_config(Config()).encode(),
    b"recipe:\n  epochs: 3\n  optimizer: {learning_rate: 1e-3, momentum: 0.5}\n  model: {hidden: [4, 5]}\n",
    b"recipe: {data: {source: x.csv, target: [a, b]}, seed: 12}\nplacement:\n  workers: 2\n  storage: runs\n",
    b'{"recipe": {"model": {"function": "os:system", "options": {"a": [1, {"b": null}]}}}}',
    b"recipe: {model: {function: 'm:f', options: {a: &a [x, x], b: &b [*a, *a], c: &c [*b, *b], d: [*c, *c]}}}\n",
    b"a: &a [x, x, x]\nb: &b [*a, *a, *a]\nrecipe: {model: {options: {c: [*b, *b, *b]}, function: 'm:f'}}\n",
)


@dataclass(frozen=True)
class DataSample:
    """Files of one source. source: what recipe.data.source says; target: recipe.data.target."""

    files: dict[str, bytes]
    source: str
    target: str | tuple[str, ...] | None = None


def make_data_samples(folder: Path) -> list[DataSample]:
    """Return the same 30 examples in every format, written by way of `folder`."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)).round(3), rng.integers(0, 3, 30)
    folder.mkdir()
    np.savez(folder / "d.npz", x=x, y=y)
    np.savez_compressed(folder / "c.npz", x=x.astype("f4"), y=np.array(["a", "b", "c"])[y])
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    np.savez(folder / "o.npz", x=x, y=np.array([Trap(), *y[1:]], dtype=object))
    columns = {f"c{i}": x[:, i] for i in range(4)} | {"kind": np.array(["red", "green", "blue"])[y], "n": y}
    parquet.write_table(pa.table(columns), folder / "d.parquet")
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (folder / "d.csv").write_text("\n".join(lines) + "\n")
    images, labels = _idx(rng.integers(0, 256, (30, 2, 2), dtype=np.uint8)), _idx(y.astype(np.uint8))
    idx = {"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": labels}

    def sample(name: str, target: str | tuple[str, ...] | None = None) -> DataSample:
        return DataSample({name: (folder / name).read_bytes()}, name, target)

    pair = {name: (folder / name).read_bytes() for name in ("x.npy", "y.npy")}
    return [
        sample("d.npz"),
        sample("c.npz"),
        sample("o.npz"),
        DataSample(pair, "x.npy", "y.npy"),
        sample("d.csv", "kind"),
        sample("d.csv", ("c0", "n")),
        sample("d.parquet", "kind"),
        DataSample({f"idx/{name}": content for name, content in idx.items()}, "idx"),
        DataSample({f"idx/{name}.gz": gzip.compress(content, mtime=0) for name, content in idx.items()}, "idx"),
    ]


class Trap:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch canary",)


def _idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@dataclass(frozen=True)
class RunSample:
    """A run that was stopped in the middle, its recipe, and what is right. storage/run: where it lies."""

    storage: Path
    recipe: Recipe
    digest: str
    evaluations: dict[int, float]

    @property
    def run_dir(self) -> Path:
        return self.storage / "run"


def make_run_sample(folder: Path) -> RunSample:
    """Return a run stopped after 5 of 6 steps with checkpoints of steps 1 to 5, made in `folder`."""
    from distbp import load_run

    rng = np.random.default_rng(0)
    folder.mkdir()
    np.savez(folder / "d.npz", x=rng.normal(size=(60, 4)), y=rng.integers(0, 3, 60))
    data = {"source": str(folder / "d.npz")}
    recipe = Recipe.model_validate(
        {"data": data, "model": {"hidden": [5]}, "global_batch_size": 16, "microbatch_size": 4, "epochs": 2}
    )
    whole = train(recipe, Placement(storage=str(folder / "whole")), name="run")
    storage = folder / "stopped"
    placement = Placement(storage=str(storage), checkpoint_every_steps=1, keep_checkpoints=9)
    with suppress(InterruptedRunError):
        train(recipe, placement, name="run", observe=lambda p: p.position.step == 5 and signal.raise_signal(15))
    evaluations = {step: load_run(str(storage / "run"), step).evaluate().loss for step in range(1, 6)}
    return RunSample(storage, recipe, whole.digest, evaluations)
