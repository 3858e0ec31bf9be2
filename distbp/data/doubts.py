"""Doubts about data: a run on them is possible, but worth less than it looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.data.blocks.describe import describe
from distbp.data.blocks.supply import BlockSupply
from distbp.data.finite import iterate_chunks
from distbp.data.prepare import PreparedData
from distbp.data.raw import RawExamples
from distbp.protocol.examples import COARSE, Examples
from distbp.protocol.supply import Supply

LARGE_TARGET = 1000.0


def find_doubts(data: PreparedData, dtype: DTypeLike) -> Iterator[str]:
    """Yield a sentence for each thing to know about `data` before a network is trained on them in `dtype`."""
    yield from data.warnings
    if not isinstance(data.train, Examples):
        yield from _find_in_blocks(data, dtype)
        return
    yield from _find_blurred(data, data.train, dtype)
    if (advice := advise_on_targets(data.train, LARGE_TARGET)) is not None:
        yield advice
    yield from _find_classes_left_out(data)


def advise_on_targets(examples: Examples | Supply, limit: float) -> str | None:
    """Return what to do about regression targets beyond `limit`, for which no learning rate is right."""
    if not isinstance(examples, Examples) or examples.y.dtype.kind != "f" or examples.targets.scale is not None:
        return None
    largest = float(np.abs(examples.y[examples.rows]).max())
    if largest <= limit:
        return None
    return (
        f"the targets reach {largest:.3g}, and errors and gradients grow with them; bring the targets near 1 (subtract "
        f"their mean and divide by their standard deviation, or divide by {10.0 ** np.floor(np.log10(largest)):g})"
    )


def _find_in_blocks(data: PreparedData, dtype: DTypeLike) -> Iterator[str]:
    """Yield what makes training on blocks slow or its batches alike, and which features lose their differences."""
    assert isinstance(data.train, BlockSupply)  # there are no others
    look = data.train.source.look
    yield from describe(look).warnings
    if data.schema.scaling.shift is None:
        columns = data.schema.feature_names

        def name(column: int) -> str:
            return f"input {column}" if columns is None else f"column {columns[column]!r}"

        yield from _describe_steps(
            *data.train.find_extent(), np.dtype(look.dtype), dtype, name, "use data.scaling=standard, or dtype=float64"
        )


def _find_blurred(data: PreparedData, examples: Examples, dtype: DTypeLike) -> Iterator[str]:
    """Yield which features, where they are not scaled, and which targets lose their differences in `dtype`."""
    schema = data.schema
    if schema.columns is not None:
        return
    source = RawExamples(
        schema.source_kind, "", examples.x, examples.y, schema.input_shape, schema.feature_names, schema.target_names
    )
    if schema.scaling.shift is None:
        advice = "use data.scaling=standard, or dtype=float64"
        yield from _describe_blurred(examples.x, dtype, source.name_input, advice)
    if schema.task == "regression" and schema.targets.scale is None:
        yield from _describe_blurred(examples.y, dtype, source.name_target, "subtract a constant, or use dtype=float64")


def _describe_blurred(values: NDArray, dtype: DTypeLike, name: Callable[[int], str], advice: str) -> Iterator[str]:
    """Yield a sentence about the first column of (N, K) values whose spread is a few steps of `dtype`."""
    if np.can_cast(values.dtype, dtype):
        return
    chunks = [(chunk.min(axis=0), chunk.max(axis=0)) for _, chunk in iterate_chunks(values)]
    low = np.min([low for low, _ in chunks], axis=0).astype(np.float64)
    high = np.max([high for _, high in chunks], axis=0).astype(np.float64)
    yield from _describe_steps(low, high, values.dtype, dtype, name, advice)


def _describe_steps(
    low: NDArray, high: NDArray, raw: np.dtype, dtype: DTypeLike, name: Callable[[int], str], advice: str
) -> Iterator[str]:
    """Yield a sentence about the first of K columns of dtype `raw` whose spread is a few steps of `dtype`.

    low, high: (K,) float64.
    """
    if np.can_cast(raw, dtype):
        return
    steps = np.spacing(np.maximum(np.abs(low), np.abs(high)).astype(dtype)).astype(np.float64)
    blurred = np.flatnonzero((steps > COARSE * (high - low)) & (high > low))
    if raw.kind in "iu":
        blurred = blurred[steps[blurred] > 1]
    if len(blurred):
        column = int(blurred[0])
        also = f" (and {len(blurred) - 1} more)" if len(blurred) > 1 else ""
        yield (
            f"{np.dtype(dtype)} cannot tell the values of {name(column)}{also} apart, {low[column]:.15g} to "
            f"{high[column]:.15g}: its numbers are {steps[column]:g} apart there; {advice}"
        )


def _find_classes_left_out(data: PreparedData) -> Iterator[str]:
    """Yield which classes chance has left without an example to validate, or to train, on."""
    schema, validation = data.schema, data.validation
    if schema.classes is None or validation is None or schema.target_shape:
        return
    for part, role in ((validation, "validation"), (data.train, "training")):
        if not isinstance(part, Examples):
            continue
        counts = np.bincount(part.y[part.rows], minlength=len(schema.classes))
        missing = [schema.classes[number] for number in np.flatnonzero(counts == 0)]
        if missing:
            some = "class" if len(missing) == 1 else "classes"
            names = ", ".join(map(repr, missing[:3])) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            yield (
                f"{some} {names} got no {role} example, so the accuracy says nothing about it; "
                "change validation or seed, or add examples"
            )
