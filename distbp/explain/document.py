"""An explanation as JSON values: every number of it, arrays as lists.

Two parts are shortened. Of the examples that are averaged over, only those that pull hardest, pull against, or cost
most are listed. Of a layer's weight nudges only the strongest are listed; all of them are the outer product of `deltas`
and the `activations` before.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.explain.averages import WishTable
from distbp.explain.explanation import Explanation
from distbp.explain.pulls import Pulls

MOST_LISTED = 10


def make_document(explanation: Explanation) -> dict[str, Any]:
    """Return everything the explanation says in JSON's types."""
    return {
        **describe_run(explanation),
        **describe_averages(explanation, MOST_LISTED),
        "example": _describe_example(explanation),
        "neuron": to_plain(explanation.neuron),
    }


def describe_run(explanation: Explanation) -> dict[str, Any]:
    """Return what is explained: the run, its network, its data, and how a step is made from an average."""
    network, population = explanation.network, explanation.population
    return {
        "run": explanation.run,
        "step": explanation.step,
        "digest": explanation.digest,
        "network": {
            "sizes": list(network.sizes),
            "num_parameters": len(network.flat),
            "activation": network.config.activation,
            "loss": network.config.loss,
            "dropout": network.config.dropout,
            "is_classification": network.is_classification,
        },
        "data": {
            "name": population.name,
            "num_examples": len(population),
            "classes": list(population.schema.classes) if population.schema.classes else None,
            "is_weighted": population.is_weighted,
            "target_units": _describe_units(explanation),
        },
        "optimizer": {
            "kind": explanation.recipe.optimizer.kind,
            "weight_decay": explanation.recipe.optimizer.weight_decay,
            "momentum": explanation.recipe.optimizer.momentum,
            "largest_norm": explanation.recipe.optimizer.largest_norm,
        },
    }


def describe_averages(explanation: Explanation, most_listed: int) -> dict[str, Any]:
    """Return what all examples and mini-batches ask for, with at most so many examples in each list."""
    pulls = explanation.pulls
    return {
        "all": {
            "num_examples": len(pulls.indices),
            "is_sample": explanation.is_sample,
            "cost": pulls.cost,
            "gradient_length": pulls.length,
            "hardest": list_pulls(explanation, pulls, pulls.hardest(most_listed)),
            "opposing": list_pulls(explanation, pulls, pulls.opposing(most_listed)),
            "costliest": list_pulls(explanation, pulls, pulls.costliest(most_listed)),
            "costs": to_plain(explanation.spread),
        },
        "batch": {
            "num_examples": len(explanation.batch.indices),
            "total_weight": float(explanation.batch.weights.sum()),
            "cost": explanation.batch.cost,
            "gradient_length": explanation.batch.length,
            "examples": list_pulls(explanation, explanation.batch, np.arange(len(explanation.batch.indices))),
        },
        "batches": to_plain(explanation.fan),
        "step_effect": to_plain(explanation.effect),
        "table": _describe_table(explanation.table),
        "listening": to_plain(explanation.listening),
    }


def list_pulls(explanation: Explanation, pulls: Pulls, positions: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return index, label, cost and pull of the examples at some positions of `pulls`."""
    return [
        {
            "index": int(pulls.indices[place]),
            "label": explanation.population.label(int(pulls.indices[place])),
            "weight": float(pulls.weights[place]),
            "cost": float(pulls.costs[place]),
            "gradient_length": float(pulls.lengths[place]),
            "share": float(pulls.shares[place]),
            "agreement": float(pulls.agreements[place]),
        }
        for place in positions
    ]


def to_plain(value: Any) -> Any:
    """Return a dataclass, array, tuple or number as JSON values."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    return [to_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _describe_example(explanation: Explanation) -> dict[str, Any]:
    example = explanation.example
    names = ("index", "row", "label", "predicted", "weight", "wanted", "cost", "trained_cost", "outputs")
    columns = ("activations", "z", "deltas", "nudges")
    return {
        **{name: to_plain(getattr(example, name)) for name in names},
        "average_cost": explanation.pulls.cost,
        "quantile": explanation.quantile,
        "gradient_length": float(explanation.own.lengths[0]),
        "share": float(explanation.own.shares[0]),
        "agreement": float(explanation.own.agreements[0]),
        "inputs": to_plain(example.inputs),
        "layers": [
            {column: to_plain(getattr(example, column)[layer]) for column in columns}
            for layer in range(len(example.activations))
        ],
        "output_wishes": to_plain(example.wishes(example.network.num_layers)),
        "strongest_weights": [
            {"layer": layer, "neuron": j, "before": k, "nudge": float(example.weight_nudges(layer)[j, k])}
            for layer in range(1, example.network.num_layers + 1)
            for j, k in example.strongest_weights(layer, MOST_LISTED)
        ],
    }


def _describe_units(explanation: Explanation) -> dict[str, Any] | None:
    """Return names, means and deviations of targets that training scaled, else None."""
    units = explanation.network.units
    if units is None:
        return None
    names = [explanation.population.name_output(number) for number in range(len(units.mean))]
    return {"names": names, **to_plain(units)}


def _describe_table(table: WishTable) -> dict[str, Any]:
    """Return the table; `names` are the rows, the columns of `wishes` are the examples."""
    return {**to_plain(table), "names": [to_plain(name) for name in table.names]}
