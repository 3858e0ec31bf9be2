"""How much a network relies on each column: what it loses when the column's values are dealt out anew among the rows.

That is permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019), on examples that training did not see.
Deals are drawn by (seed, column, repeat), so the same run and data give the same figures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distbp.data import Schema
from distbp.nn.blas import fixed_arithmetic
from distbp.prediction.network import Network
from distbp.protocol.examples import Examples
from distbp.training.measures import measure_labels, measure_numbers

NUM_REPEATS = 5
MOST_EXAMPLES = 2000
MOST_COLUMNS = 200
"""Of features without kinds: more, such as pixels, say little one by one."""


@dataclass(frozen=True)
class Importance:
    """One column. drop: of the score, mean over the repeats; spread: the standard deviation over them."""

    name: str
    drop: float
    spread: float


@dataclass(frozen=True)
class _Place:
    """Where a column's values are in a row: `numbers`, of which each is one, and `codes`."""

    name: str
    numbers: tuple[int, ...]
    codes: tuple[int, ...] = ()


@fixed_arithmetic()
def measure_importance(network: Network, examples: Examples, seed: int) -> list[Importance]:
    """Return the importance of every column that is used, the largest first; none for pixels and sequences.

    The score is accuracy, of several labels the share that is right, of numbers R2. Of many examples MOST_EXAMPLES are
    taken, evenly spaced.
    """
    places = _list_places(network.schema)
    if not places or len(examples) < 2:
        return []
    sample = _take_sample(examples)
    weights = sample.take_weights(slice(None))
    if weights is not None and not weights.any():
        return []
    whole = score(network, sample)
    found = [_measure(network, sample, place, whole, (seed, number)) for number, place in enumerate(places)]
    return sorted(found, key=lambda one: -one.drop)


def score(network: Network, examples: Examples) -> float:
    """Return accuracy, the share of labels that are right, or R2."""
    outputs, y = network.outputs(examples), examples.y[examples.rows]
    weights = examples.take_weights(slice(None))
    if network.schema.classes is not None:
        return float(np.average(outputs.argmax(axis=1) == y, weights=weights))
    if network.schema.labels is not None:
        return measure_labels(outputs, y, weights).label_accuracy
    return measure_numbers(network.in_units(outputs), y, weights).r2


def _list_places(schema: Schema) -> list[_Place]:
    if schema.target_shape:
        return []
    if schema.columns is None:
        names = schema.feature_names or tuple(f"input {number}" for number in range(schema.num_inputs))
        few = len(schema.input_shape) == 1 and schema.num_inputs <= MOST_COLUMNS
        return [_Place(name, (number,)) for number, name in enumerate(names)] if few else []
    places, num_numbers, num_codes = [], 0, 0
    for column in schema.columns.used:
        if column.kind == "category":
            places.append(_Place(column.name, (), (num_codes,)))
            num_codes += 1
        else:
            end = num_numbers + len(column.numbers)
            places.append(_Place(column.name, tuple(range(num_numbers, end))))
            num_numbers = end
    return places


def _take_sample(examples: Examples) -> Examples:
    """Return copies of the examples, or of MOST_EXAMPLES of them, as all rows of arrays of their own."""
    count = min(len(examples), MOST_EXAMPLES)
    rows = examples.rows[np.linspace(0, len(examples) - 1, count).round().astype(np.int64)]
    weights = None if examples.weights is None else examples.weights[rows]
    return replace(examples, x=examples.x[rows], y=examples.y[rows], rows=np.arange(count), weights=weights)


def _measure(network: Network, sample: Examples, place: _Place, whole: float, key: tuple[int, int]) -> Importance:
    drops = []
    for repeat in range(NUM_REPEATS):
        order = np.random.default_rng((*key, repeat)).permutation(len(sample))
        drops.append(whole - score(network, replace(sample, x=_deal(sample.x, place, order))))
    return Importance(place.name, float(np.mean(drops)), float(np.std(drops)))


def _deal(x: NDArray, place: _Place, order: NDArray[np.int64]) -> NDArray:
    """Return a copy of the rows in which a column has its values in another order."""
    dealt = x.copy()
    numbers = dealt if x.dtype.names is None else dealt["numbers"]
    numbers[:, place.numbers] = numbers[order][:, place.numbers]
    if place.codes:
        dealt["codes"][:, place.codes] = dealt["codes"][order][:, place.codes]
    return dealt
