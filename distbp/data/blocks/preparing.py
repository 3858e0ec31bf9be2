"""From `recipe.data` to examples in blocks: the rule that says what they are, and what their first look found."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from distbp.config import Data
from distbp.data.blocks.decoding import Decoder
from distbp.data.blocks.examples import BlockSource
from distbp.data.blocks.fetch import Fetcher
from distbp.data.blocks.files import SUFFIXES, list_files
from distbp.data.blocks.kept import find_cache_folder
from distbp.data.blocks.look import Look, Mapper, Question, look_at
from distbp.data.blocks.parquet_blocks import find_partitions
from distbp.data.blocks.parts import Contents
from distbp.data.blocks.supply import BlockSupply
from distbp.data.columns import choose_columns
from distbp.data.finite import check_finite
from distbp.data.idx import has_training_files
from distbp.data.raw import Wanted
from distbp.data.reading import reading, to_path
from distbp.data.scaling import ScalingKind
from distbp.data.schema import Schema, check_inputs
from distbp.errors import DataError
from distbp.protocol.examples import Examples

logger = logging.getLogger("distbp")

QUICK_S = 2.0

Target = str | tuple[str, ...] | None


def is_in_blocks(source: str) -> bool:
    """Return whether a source is data in blocks.

    It is if it is a URL, a glob, or a folder of Parquet, npy, npz or CSV files; a single file at a path, a folder of
    IDX files, and `digits` are read into memory.
    """
    if "://" in source:
        return True
    path = to_path(source)
    with reading(path, "data"):
        if path.is_dir():
            return not has_training_files(path) and any(found.name.lower().endswith(SUFFIXES) for found in _walk(path))
        return not path.exists() and any(mark in source for mark in "*?[")


def prepare_training(data: Data, seed: int, mapper: Mapper | None = None) -> tuple[BlockSupply, Schema]:
    """Return the training examples of a source in blocks, and how they are read. Raises DataError."""
    fraction = 0.0 if isinstance(data.validation, str) else data.validation
    question = Question(data.source, data.target, data.task, fraction, seed, weight=data.weight)
    look = _look(question, mapper)
    return BlockSupply(BlockSource(look, question, data.scaling), False), make_schema(look, data.scaling)


def read_held_out(schema: Schema, source: str, target: Target = None, mapper: Mapper | None = None) -> BlockSupply:
    """Return all examples of another source, read as the run with this schema read its own. Raises DataError."""
    known = schema.target_names[0] if schema.target_names and len(schema.target_names) == 1 else schema.target_names
    question = Question(
        source,
        known if target is None else target,
        schema.task,
        features=schema.feature_names,
        classes=schema.classes,
        weight=schema.weight,
    )
    look = _look(question, mapper)
    _check_fits(look, schema, source)
    return BlockSupply(BlockSource(look, question, "none", schema), False)


def iterate_features(schema: Schema, source: str, target: Target = None) -> Iterator[Examples]:
    """Yield the features of a source block by block, y (n, 0): of what is predicted nobody knows the targets."""
    listing = list_files(source)
    fetcher = Fetcher()
    contents = Contents(listing, partitions=find_partitions([file.name for file in listing.files]), has_targets=False)
    wanted = Wanted(target, False, True, schema.feature_names, schema.target_names)
    try:
        for number, file in enumerate(listing.files):
            parts = Decoder(contents, fetcher).split(number)
            if parts.columns:
                names = [name for name, _ in parts.columns]
                features, _ = choose_columns(names, wanted, f"'{file.url}'")
                contents = replace(contents, features=features)
            decoder = Decoder(contents, fetcher)
            for block in parts.blocks:
                raw = decoder.decode(block)
                check_inputs(raw, schema)
                check_finite(raw.x, raw.locate_input, raw.origin)
                yield Examples(raw.x, np.empty((len(raw.x), 0)), np.arange(len(raw.x)), schema.scaling)
    finally:
        fetcher.stop()


def is_same_source(one: str, other: str) -> bool:
    """Return whether two sources in blocks are the same files."""
    return one == other or list_files(one).identity() == list_files(other).identity()


def make_schema(look: Look, scaling_kind: ScalingKind) -> Schema:
    """Return what a look found, as a run remembers it."""
    scaling, contents = look.statistics.to_scaling(scaling_kind), look.contents
    kind = contents.listing.suffix.removeprefix(".")
    return Schema(
        source_kind=kind,  # type: ignore[arg-type]  # the suffixes of blocks are kinds of sources
        num_inputs=int(np.prod(look.input_shape)),
        input_shape=look.input_shape,
        feature_names=contents.features or None,
        target_names=contents.targets or None,
        task=look.task,
        classes=look.spec.classes,
        num_outputs=look.num_outputs,
        scaling=scaling,
        target_shape=look.target_shape,
        integer_inputs=np.dtype(look.dtype).kind in "iu" and scaling.shift is None and scaling.scale is None,
        weight=contents.weight,
    )


def _walk(folder: Path) -> Iterator[Path]:
    hidden = (".", "_")
    return (
        path
        for path in folder.rglob("*")
        if not any(part.startswith(hidden) for part in path.relative_to(folder).parts)
    )


def _look(question: Question, mapper: Mapper | None) -> Look:
    began = time.monotonic()
    look = look_at(question, mapper=mapper, store=find_cache_folder("looks"), on_progress=_Teller(began))
    if (seconds := time.monotonic() - began) > QUICK_S:
        logger.info("first look at '%s': %s rows in %.0f s", question.source, f"{look.num_rows:,}", seconds)
    return look


class _Teller:
    """Says now and then how far a look is."""

    def __init__(self, began: float):
        self._last = began
        self._pause_s = QUICK_S

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last > self._pause_s and done < total:
            self._last, self._pause_s = now, 30.0
            logger.info("first look at the data: %s of %s blocks", f"{done:,}", f"{total:,}")


def _check_fits(look: Look, schema: Schema, source: str) -> None:
    if look.input_shape != schema.input_shape and int(np.prod(look.input_shape)) != schema.num_inputs:
        raise DataError(
            f"the inputs of '{source}' have shape {look.input_shape}; the run was trained on {schema.input_shape}"
        )
    if look.target_shape != schema.target_shape:
        raise DataError(
            f"the targets of '{source}' have shape {look.target_shape} per example; the run was trained on "
            f"{schema.target_shape}"
        )
    if look.num_outputs != schema.num_outputs:
        raise DataError(f"'{source}' has {look.num_outputs} targets per example; expected {schema.num_outputs}")
