"""A table's columns in an ONNX graph: gaps, categories and dates become the inputs that training had.

An input for each column: a number (N, 1) float64, NaN for a gap; a category (N, 1) of text, empty for a gap, true and
false in lower case; of a date one for each part, called `name.part`, as a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distbp.data.preparation import Column, Preparation

ML = "ai.onnx.ml"
"""The operators for text, which are used where a column is a category."""


def prepare_columns(graph: Any, columns: Preparation, scale: Callable[[str], str]) -> str:
    """Add the inputs of a table; return the name of (N, I) in the network's number format, as `Encoding` orders them.

    graph: what collects nodes. scale: adds the scaling of numbers (N, n) in float64, given their name.
    """
    parts: list[str] = []
    names = [name for column in columns.columns for name in column.name_numbers()]
    if names:
        raw = graph.add("Concat", *(graph.take_input(name, ("N", 1)) for name in names), axis=1)
        gaps, encoding = graph.add("IsNaN", raw), columns.encoding()
        parts.append(scale(graph.add("Where", gaps, graph.constant(encoding.fill), raw)))
        if len(encoding.indicators):
            chosen = graph.add("Gather", gaps, graph.constant(encoding.indicators.astype(np.int64)), axis=1)
            parts.append(graph.add("Cast", chosen, to=graph.number_type))
    parts += [_spread(graph, column) for column in columns.categories]
    found: str = graph.add("Concat", *parts, axis=1)
    return found


def _spread(graph: Any, column: Column) -> str:
    """Return (N, places) of zeros and ones: a place for each category, and one for gaps where training had some."""
    labels = list(column.categories) + ([""] if column.has_gaps else [])
    text = graph.take_input(column.name, ("N", 1), is_text=True)
    codes = graph.add(
        "LabelEncoder",
        graph.add("Reshape", text, graph.constant(np.array([-1]))),
        domain=ML,
        keys_strings=labels,
        values_int64s=list(range(1, len(labels) + 1)),
        default_int64=0,
    )
    depth = graph.constant(np.array(len(labels) + 1))
    whole = graph.add("OneHot", codes, depth, graph.number([0, 1]), axis=1)
    found: str = graph.add("Gather", whole, graph.constant(np.arange(1, len(labels) + 1)), axis=1)
    return found
