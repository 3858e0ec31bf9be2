"""What the page holds: the neurons of large layers that matter most, and a few examples to choose from.

Arrays with one value for each input are packed as little-endian float32 in base64, and pictures as bytes. Everything
else is rounded to seven digits. The page's script draws this and multiplies it; it computes no derivative.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.explain.document import describe_averages, describe_run, to_plain
from distbp.explain.example import ExampleView
from distbp.explain.explanation import Explanation
from distbp.explain.ways import NeuronView, Way

MOST_NEURONS = 16
MOST_OUTPUTS = 20
MOST_PIXELS = 4096
MOST_LEVERS = 6
MOST_LISTED = 6
MOST_BARS = 256


def make_contents(explanation: Explanation) -> dict[str, Any]:
    """Return everything the page shows as JSON values."""
    examples = [explanation.view(index) for index in _choose_examples(explanation)]
    drawn = choose_neurons(explanation, examples)
    averages = describe_averages(explanation, MOST_LISTED)
    averages["batch"]["examples"] = _thin(averages["batch"]["examples"])
    lists = [averages["all"][name] for name in ("hardest", "opposing", "costliest")]
    seen = {pull["index"] for pulls in lists for pull in pulls} | {example.index for example in examples}
    contents = {
        **describe_run(explanation),
        **averages,
        "title": f"Backpropagation in {explanation.run}",
        "picture": _picture_shape(explanation),
        "layers": [_describe_layer(explanation, layer, drawn[layer]) for layer in range(len(drawn))],
        "weights": [_pack(weights) for weights in _drawn_weights(explanation, drawn)],
        "examples": [_describe_example(explanation, example, drawn) for example in examples],
        "neuron": _first_neuron(explanation, drawn),
        "pictures": {str(index): _pack_picture(explanation.population.inputs(index)) for index in sorted(seen)},
    }
    rounded: dict[str, Any] = _round(contents)
    return rounded


def choose_neurons(explanation: Explanation, examples: list[ExampleView]) -> list[NDArray[np.int64]]:
    """Return which neurons of each layer are drawn, ascending: all, or those with the largest |nudge times activation|.

    Each example counts the same. All pixels of a picture are drawn.
    """
    network = explanation.network
    drawn = []
    for layer, size in enumerate(network.sizes):
        is_last = layer == network.num_layers
        most = MOST_OUTPUTS if is_last else MOST_NEURONS
        if layer == 0 and _picture_shape(explanation) is not None:
            most = size
        scores = np.sum([_importance(example, layer, is_last) for example in examples], axis=0)
        if layer == explanation.neuron.layer:
            scores[explanation.neuron.neuron] = np.inf  # the reader asked for it
        drawn.append(np.sort(np.argsort(-scores, kind="stable")[:most]))
    return drawn


def _importance(example: ExampleView, layer: int, is_last: bool) -> NDArray:
    """Return (n_layer,) how much each neuron matters to one example, adding up to 1."""
    scores: NDArray = np.abs(example.nudges[layer]) * (1 if is_last else np.abs(example.activations[layer]))
    scores /= max(float(scores.sum()), 1e-300)
    return scores


def _choose_examples(explanation: Explanation) -> list[int]:
    """Return the example explained, those of the table, and the ones that stand out among all."""
    pulls = explanation.pulls
    places = [*pulls.hardest(2), *pulls.opposing(2), *pulls.costliest(2)]
    chosen = [*explanation.table.examples.tolist(), *(int(pulls.indices[place]) for place in places)]
    return list(dict.fromkeys(chosen))


def _thin(pulls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return examples by how hard they pull, strongest first; of very many an even choice."""
    ordered = sorted(pulls, key=lambda pull: -pull["share"])
    if len(ordered) <= MOST_BARS:
        return ordered
    return [ordered[place] for place in np.linspace(0, len(ordered) - 1, MOST_BARS).astype(np.int64)]


def _describe_layer(explanation: Explanation, layer: int, drawn: NDArray[np.int64]) -> dict[str, Any]:
    """Return the layer's size and the numbers and names of the neurons that are drawn."""
    population = explanation.population
    values: dict[str, Any] = {"size": explanation.network.sizes[layer], "drawn": drawn.tolist()}
    if layer == 0:
        values["names"] = None if _picture_shape(explanation) else [population.name_input(int(k)) for k in drawn]
    elif layer == explanation.network.num_layers:
        values["names"] = [population.name_output(int(j)) for j in drawn]
    else:
        values["names"] = [str(j) for j in drawn]
    return values


def _drawn_weights(explanation: Explanation, drawn: list[NDArray[np.int64]]) -> list[NDArray]:
    """Return for each layer 1 .. L the weights between drawn neurons, (drawn here, drawn before)."""
    network = explanation.network
    return [network.weight(layer)[np.ix_(drawn[layer], drawn[layer - 1])] for layer in range(1, len(drawn))]


def _describe_example(explanation: Explanation, example: ExampleView, drawn: list[NDArray[np.int64]]) -> dict[str, Any]:
    pull = explanation.pull(example.index)
    return {
        "index": example.index,
        "row": example.row,
        "label": to_plain(example.label),
        "predicted": to_plain(example.predicted),
        "weight": example.weight,
        "cost": example.cost,
        "wanted": example.wanted[drawn[-1]].tolist(),
        "outputs": example.outputs[drawn[-1]].tolist(),
        "quantile": float(np.mean(explanation.pulls.costs < example.cost)),
        "share": float(pull.shares[0]),
        "agreement": float(pull.agreements[0]),
        "gradient_length": float(pull.lengths[0]),
        "layers": [_describe_passage(example, layer, drawn[layer]) for layer in range(len(drawn))],
        "others": [None, *(_others(example, layer, drawn) for layer in range(1, len(drawn)))],
        "ways": [
            [],
            *(
                [_describe_neuron(explanation.view_neuron(example, layer, int(j), MOST_LEVERS)) for j in drawn[layer]]
                for layer in range(1, len(drawn))
            ),
        ],
    }


def _describe_passage(example: ExampleView, layer: int, drawn: NDArray[np.int64]) -> dict[str, Any]:
    """Return what the drawn neurons of a layer do, and what is asked of them; packed where each is a pixel."""
    columns = {
        "a": example.activations[layer][drawn],
        "nudge": example.nudges[layer][drawn],
        "delta": example.deltas[layer][drawn],
    }
    return {name: _pack(values) if len(drawn) > 64 else values.tolist() for name, values in columns.items()}


def _others(example: ExampleView, layer: int, drawn: list[NDArray[np.int64]]) -> str | list[float]:
    """Return the sum of the wishes that the neurons of `layer` that are not drawn have for the drawn ones before it."""
    hidden = np.setdiff1d(np.arange(len(example.deltas[layer])), drawn[layer])
    wishes = -example.deltas[layer][hidden] @ example.network.weight(layer)[np.ix_(hidden, drawn[layer - 1])]
    return _pack(wishes) if len(wishes) > 64 else wishes.tolist()


def _describe_neuron(view: NeuronView) -> dict[str, Any]:
    return {
        "z": view.z,
        "slope": view.slope,
        "ways": [_describe_way(way) for way in view.ways],
    }


def _describe_way(way: Way) -> dict[str, Any]:
    """Return a way; a lever is [number, value, slope], an effect [activation predicted, measured, cost ..., ...]."""
    columns = ("activation_predicted", "activation_measured", "cost_predicted", "cost_measured")
    singles = np.stack([getattr(way.single, column) for column in columns], axis=1)
    return {
        "kind": way.kind,
        "length": way.slope_length,
        "levers": [[int(k), float(v), float(s)] for k, v, s in zip(way.levers, way.values, way.slopes, strict=True)],
        "single": singles.tolist(),
        "together": [float(getattr(way.together, column)[0]) for column in columns],
    }


def _first_neuron(explanation: Explanation, drawn: list[NDArray[np.int64]]) -> list[int]:
    """Return the layer and the place among its drawn neurons of the neuron to begin with."""
    layer = explanation.neuron.layer
    return [layer, int(np.flatnonzero(drawn[layer] == explanation.neuron.neuron)[0])]


def _picture_shape(explanation: Explanation) -> list[int] | None:
    """Return [rows, columns, channels] if the examples are pictures that can be shown pixel by pixel."""
    shape = explanation.population.schema.input_shape
    is_grey = len(shape) == 2 and min(shape) > 1
    is_color = len(shape) == 3 and shape[2] in (1, 3)
    if not (is_grey or is_color) or int(np.prod(shape[:2])) > MOST_PIXELS:
        return None
    return [shape[0], shape[1], shape[2] if is_color else 1]


def _pack_picture(inputs: NDArray) -> str:
    """Return an example's own values as bytes, 0 for its smallest to 255 for its largest."""
    values = inputs.astype(np.float64).ravel()
    low, high = values.min(), values.max()
    levels = (values - low) * (255 / (high - low)) if high > low else values * 0
    return base64.b64encode(np.rint(levels).astype(np.uint8).tobytes()).decode()


def _pack(values: NDArray) -> str:
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def _round(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _round(inner) for key, inner in value.items()}
    return [_round(inner) for inner in value] if isinstance(value, list) else value
