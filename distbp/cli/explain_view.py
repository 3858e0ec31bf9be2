"""An explanation in a terminal of 80 columns: the lesson from one example to the average, compact."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from distbp.text.printable import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from distbp.explain import Explanation
    from distbp.explain.pulls import Pulls

SHADES = " ░▒▓█"
BAR_WIDTH = 10
MOST_ROWS = 10
TABLE_COLUMNS = 4
SCALED = (
    "Training scaled the targets. Says, wanted and costs are in the units of the\n"
    "data; nudges, activations and the costs of the three ways are of scaled targets."
)
WEIGHED = (
    "Examples have weights. What one asks is shown without its weight, and counts\n"
    "with it: an average is the sum of weight times nudge over the sum of weights."
)


def view_explanation(explanation: Explanation) -> Iterator[RenderableType]:
    """Yield the parts of the lesson, each with its heading."""
    yield from _view_example(explanation)
    yield from _view_ways(explanation)
    yield from _view_backwards(explanation)
    yield from _view_average(explanation)
    yield from _view_costs(explanation)
    yield from _view_listening(explanation)


def _view_example(explanation: Explanation) -> Iterator[RenderableType]:
    example, network = explanation.example, explanation.network
    sizes = "-".join(map(str, network.sizes))
    when = f"after {explanation.step:,} steps" if explanation.step else "untrained"
    what = (
        ""
        if example.label is None
        else f": it is {printable(example.label)}, the network says {printable(example.predicted)}"
    )
    yield Text(f"{printable(explanation.run)}, {sizes} {network.config.activation}, {when}")
    yield _heading(f"Example {example.index} of {printable(explanation.population.name)}{what}")
    picture = draw_picture(example.inputs)
    if picture is not None:
        yield Text(picture)
    yield Text(
        f"its cost {example.cost:.4g}, the average {explanation.pulls.cost:.4g}; "
        f"{explanation.quantile:.0%} of the examples cost less"
    )
    if network.units is not None:
        yield Text(SCALED)
    table = _table("output", "says", "wanted", "nudge", "")
    strongest = max(map(abs, example.nudges[-1]))
    says, wanted = (".4f", ".4g") if network.units is None else (".6g", ".6g")
    for number in _top(example.nudges[-1], MOST_ROWS):
        nudge = float(example.nudges[-1][number])
        table.add_row(
            _name_output(explanation, number),
            f"{example.outputs[number]:{says}}",
            f"{example.wanted[number]:{wanted}}",
            f"{nudge:+.3g}",
            _bar(nudge, strongest),
        )
    yield table


def _view_ways(explanation: Explanation) -> Iterator[RenderableType]:
    neuron = explanation.neuron
    direction = "up" if neuron.nudge > 0 else "down" if neuron.nudge < 0 else "nowhere"
    yield _heading(f"Three ways to raise {_name_neuron(explanation, neuron.layer, neuron.neuron)}")
    yield Text(
        f"it stands at {neuron.activation:.4g} (z = {neuron.z:.4g}); this example wants it {direction} "
        f"({neuron.nudge:+.3g})\na step of length 0.01 along each, predicted and measured:"
    )
    table = _table("way", "raises z by", "activation", "measured", "cost", "measured")
    names = {"bias": "its bias", "weights": "its weights", "activations": "activations before"}
    for way in sorted(neuron.ways, key=lambda way: -way.slope_length):
        effect = way.together
        table.add_row(
            names[way.kind],
            f"{0.01 * way.slope_length:.3g}",
            f"{effect.activation_predicted[0]:+.3g}",
            f"{effect.activation_measured[0]:+.3g}",
            f"{effect.cost_predicted[0]:+.3g}",
            f"{effect.cost_measured[0]:+.3g}",
        )
    yield table
    yield _rank_levers(explanation)


def _rank_levers(explanation: Explanation) -> Table:
    """Return the strongest single weights and activations before, side by side."""
    neuron = explanation.neuron
    _, weights, activations = neuron.ways
    table = _table("weight from", "now", "dz = a before", "activation of", "now", "dz = weight")
    for place in range(min(4, len(weights.levers))):
        table.add_row(
            _name_neuron(explanation, neuron.layer - 1, int(weights.levers[place])),
            f"{weights.values[place]:.3f}",
            f"{weights.slopes[place]:+.3f}",
            _name_neuron(explanation, neuron.layer - 1, int(activations.levers[place])),
            f"{activations.values[place]:.3f}",
            f"{activations.slopes[place]:+.3f}",
        )
    return table


def _view_backwards(explanation: Explanation) -> Iterator[RenderableType]:
    example = explanation.example
    yield _heading("Backwards: what is wanted of each layer, all wishes added up (length: how loud)")
    table = _table("layer", "neurons", "wants most changed", "length", "strongest weight nudge")
    for layer in range(example.network.num_layers, -1, -1):
        nudges = example.nudges[layer]
        top = ", ".join(f"{_short_name(explanation, layer, k)} {nudges[k]:+.2g}" for k in _top(nudges, 2))
        table.add_row(
            _name_layer(explanation, layer),
            f"{len(nudges):,}",
            top,
            f"{_length(nudges):.3g}",
            _strongest_weight(explanation, layer),
        )
    yield table


def _strongest_weight(explanation: Explanation, layer: int) -> str:
    if layer == 0:
        return ""
    example = explanation.example
    ((j, k),) = example.strongest_weights(layer, 1)
    nudge = -example.deltas[layer][j] * example.activations[layer - 1][k]
    return f"{k} → {j} {nudge:+.2g}"


def _view_average(explanation: Explanation) -> Iterator[RenderableType]:
    table, pulls = explanation.table, explanation.pulls
    what = f"a sample of {len(pulls.indices):,}" if explanation.is_sample else f"all {len(pulls.indices):,}"
    yield _heading(f"The average: what each example asks of a weight, and what {what} ask together")
    shown = range(min(TABLE_COLUMNS, len(table.examples)))
    grid = _table(
        "weight", *(_name_example(explanation, int(table.examples[column])) for column in shown), "batch", "all"
    )
    for row, name in enumerate(table.names):
        before = "bias" if name.before is None else str(name.before)
        values = [*(table.wishes[row, column] for column in shown), table.batch_average[row], table.all_average[row]]
        grid.add_row(f"{name.layer}: {before}→{name.neuron}", *map(_wish, values))
    if explanation.population.is_weighted:
        grid.add_row("weight", *(f"{table.weights[column]:.3g}" for column in shown), "", "", style="dim")
        yield Text(WEIGHED)
    yield grid
    effect = explanation.effect
    yield Text(
        f"the mini-batch of {len(explanation.batch.indices)} points {_angle(effect.batch_agreement)}° away from all; "
        f"a plain step at rate {effect.learning_rate:g}\n"
        f"takes the average cost from {effect.before:.6g} to {effect.after_batch:.6g}, "
        f"along all to {effect.after_all:.6g}"
    )
    yield from _view_pulls(explanation)


def _view_pulls(explanation: Explanation) -> Iterator[RenderableType]:
    own, pulls = explanation.own, explanation.pulls
    equal = 1 / len(pulls.indices)
    yield Text(
        f"this example pulls {own.shares[0] / equal:+.2f} times an equal share, "
        f"cosine {own.agreements[0]:+.2f} to the average"
    )
    table = _table("pull hardest", "times equal", "cosine", "pull against", "times equal", "cosine")
    for along, against in zip(pulls.hardest(4), pulls.opposing(4), strict=False):
        table.add_row(*_pull(explanation, pulls, int(along)), *_pull(explanation, pulls, int(against)))
    yield table


def _pull(explanation: Explanation, pulls: Pulls, place: int) -> tuple[str, str, str]:
    times = pulls.shares[place] * len(pulls.indices)
    return _name_example(explanation, int(pulls.indices[place])), f"{times:+.1f}", f"{pulls.agreements[place]:+.2f}"


def _view_costs(explanation: Explanation) -> Iterator[RenderableType]:
    spread = explanation.spread
    yield _heading("The cost of each example")
    yield Text(f"{spread.edges[0]:.1e} {_sparkline(spread.counts)} {spread.edges[-1]:.1e}  (logarithmic)")
    places = (0, 2, 4)
    carried = ", ".join(f"{spread.top_fractions[i]:.0%} carry {spread.carried[i]:.0%}" for i in places)
    yield Text(f"the costliest {carried} of the total cost")


def _view_listening(explanation: Explanation) -> Iterator[RenderableType]:
    if not explanation.listening:
        return
    label = printable(explanation.listening[0].label)
    num_steps = explanation.listening[0].steps[-1]
    yield _heading(f"Listening to {label} only, for {num_steps} steps: what is then said of all examples")
    table = _table("network", f"says {label}", "", "accuracy", "")
    for listening, name in zip(explanation.listening, ("this one", "untrained"), strict=False):
        called = listening.called[:, listening.class_number]
        if explanation.step == 0:
            name = "untrained"
        table.add_row(
            name,
            f"{called[0]:.0%} → {called[-1]:.0%}",
            _sparkline(called),
            f"{listening.accuracies[0]:.0%} → {listening.accuracies[-1]:.0%}",
            _sparkline(listening.accuracies),
        )
    yield table


def draw_picture(inputs: NDArray) -> str | None:
    """Return a picture of grey values (rows, columns) as text, two rows a line; None for anything else."""
    if inputs.ndim != 2 or min(inputs.shape) < 2 or max(inputs.shape) > 76:
        return None
    values = inputs.astype(float)
    low, high = values.min(), values.max()
    levels = (values - low) / (high - low) if high > low else values * 0
    wide = levels.shape[1] <= 20  # small pictures: two characters a pixel, one row a line
    lines = levels if wide else (levels[:-1:2] + levels[1::2]) / 2
    return "\n".join("  " + "".join(_shade(value) * (2 if wide else 1) for value in line).rstrip() for line in lines)


def _shade(level: float) -> str:
    return SHADES[min(int(level * len(SHADES)), len(SHADES) - 1)]


def _sparkline(values: NDArray) -> str:
    top = max(float(values.max()), 1e-12)
    return "".join("▁▂▃▄▅▆▇█"[min(int(float(value) / top * 8), 7)] if value > 0 else " " for value in values)


def _bar(value: float, largest: float) -> Text:
    width = round(abs(value) / largest * BAR_WIDTH) if largest > 0 else 0
    blocks = ("▸" if value > 0 else "◂") * width
    return Text(blocks, "blue" if value > 0 else "dark_orange")


def _wish(value: float) -> str:
    return "·" if value == 0 else f"{value:+.1e}"


def _angle(agreement: float) -> int:
    return round(math.degrees(math.acos(max(-1.0, min(1.0, agreement)))))


def _heading(text: str) -> Text:
    return Text(f"\n{text}", "bold")


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, name in enumerate(names):
        table.add_column(name, justify="left" if place == 0 else "right", no_wrap=True)
    return table


def _top(values: NDArray, limit: int) -> list[int]:
    """Return the places of the strongest values, in order of place."""
    strongest = abs(values).argsort(kind="stable")[::-1][:limit]
    return sorted(int(place) for place in strongest)


def _length(values: NDArray) -> float:
    return float((values @ values) ** 0.5)


def _name_layer(explanation: Explanation, layer: int) -> str:
    if layer == 0:
        return "input"
    return "output" if layer == explanation.network.num_layers else str(layer)


def _name_output(explanation: Explanation, number: int) -> str:
    return printable(explanation.population.name_output(number))


def _short_name(explanation: Explanation, layer: int, neuron: int) -> str:
    return _name_output(explanation, neuron) if layer == explanation.network.num_layers else str(neuron)


def _name_neuron(explanation: Explanation, layer: int, neuron: int) -> str:
    if layer == explanation.network.num_layers:
        return f"output {_name_output(explanation, neuron)}"
    return f"input {neuron}" if layer == 0 else f"{layer}:{neuron}"


def _name_example(explanation: Explanation, index: int) -> str:
    label = explanation.population.label(index)
    return f"#{index}" if label is None else f"#{index} ({printable(label)})"
