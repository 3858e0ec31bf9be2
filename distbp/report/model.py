"""What a trained network takes in, gives out, and how well it does, read into values for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distbp.data import Schema, is_in_blocks
from distbp.data.preparation import Column, Number
from distbp.errors import DataError, DistbpError
from distbp.prediction.importance import Importance, measure_importance
from distbp.prediction.trained_run import EvaluationReport, TrainedRun, load_run
from distbp.protocol.examples import Examples
from distbp.text.printable import printable
from distbp.training.measures import LabelMeasures, NumberMeasures

MOST_SHOWN = 6


@dataclass(frozen=True)
class InputColumn:
    """One column of the data. becomes: what the network gets of it, in a few words. num_inputs: how many inputs."""

    name: str
    kind: str
    becomes: str
    num_inputs: int


@dataclass(frozen=True)
class ModelStory:
    """A network and what it says of examples that training did not see.

    num_inputs, inputs: what goes in; inputs is empty where features have no names. outputs: what comes out, in a
    sentence. judged_on: the data, in words. predicted: (n, O), probabilities or values in the users' units; actual:
    (n,) class numbers, or (n, O); weights: (n,), None where all count the same. importances: the largest first.
    """

    schema: Schema
    num_inputs: int
    inputs: Sequence[InputColumn]
    outputs: str
    judged_on: str
    report: EvaluationReport
    predicted: NDArray
    actual: NDArray
    weights: NDArray | None
    importances: Sequence[Importance]

    @property
    def class_names(self) -> list[str]:
        """What the classes are called, on a page."""
        return [printable(label) for label in self.schema.classes or ()]

    @property
    def target_names(self) -> list[str]:
        """What the targets are called."""
        names = self.schema.target_names or tuple(f"output {place}" for place in range(self.schema.num_outputs))
        return [printable(name) for name in names]

    @property
    def score_name(self) -> str:
        """What importances are drops of."""
        if isinstance(self.report.measures, NumberMeasures):
            return "R2"
        return "share of labels that are right" if isinstance(self.report.measures, LabelMeasures) else "accuracy"


def read_model(url: str) -> ModelStory | str:
    """Return the story of a finished run's network on its own validation examples, or in a sentence why there is none.

    A page about a run is worth having without its data, which may be gone, or be too many to read for a page.
    """
    try:
        trained = load_run(url)
        if is_in_blocks(trained.config.recipe.data.source):
            return "Its data are in blocks, which are not read for a page."
        return describe_model(trained)
    except DistbpError as error:
        return f"It cannot be judged here: {error}."


def describe_model(trained: TrainedRun, data: str | None = None) -> ModelStory:
    """Return the story of a network on `data`; None: on the run's own validation examples.

    Raises DataError, also for data in blocks and for sequences, which have no such page.
    """
    examples = trained.judged_examples(data)
    if not isinstance(examples, Examples) or trained.schema.target_shape:
        what = "sequences" if trained.schema.target_shape else "data in blocks"
        raise DataError(f"a page about the network is made for examples in memory with one answer each, not for {what}")
    report = trained.evaluate_examples(examples)
    if report.measures is None:
        raise DataError("a page about the network needs one output for each class or target, and a validation example")
    network = trained.network
    outputs = network.outputs(examples)
    return ModelStory(
        schema=trained.schema,
        num_inputs=trained.schema.num_inputs,
        inputs=_list_inputs(trained.schema),
        outputs=_describe_outputs(trained.schema),
        judged_on="the validation examples, which training did not see" if data is None else f"'{data}'",
        report=report,
        predicted=outputs if trained.schema.task == "classification" else network.in_units(outputs),
        actual=examples.y[examples.rows],
        weights=examples.take_weights(slice(None)),
        importances=measure_importance(network, examples, trained.config.recipe.seed),
    )


def _list_inputs(schema: Schema) -> list[InputColumn]:
    if schema.columns is not None:
        return [_describe_column(column) for column in schema.columns.columns]
    shift, scale = schema.scaling.shift, schema.scaling.scale
    found = []
    for place, name in enumerate(schema.feature_names or ()):
        ends = (None, None) if shift is None or scale is None else (float(shift[place]), float(scale[place]))
        found.append(InputColumn(printable(name), "number", _describe_scaling(*ends), 1))
    return found


def _describe_column(column: Column) -> InputColumn:
    name = printable(column.name) or "(no name)"
    if column.kind == "ignore":
        return InputColumn(name, "ignored", f"nothing: it {printable(column.why or 'is ignored')}", 0)
    if column.kind == "category":
        shown = ", ".join(map(printable, column.categories[:MOST_SHOWN]))
        more = f" and {len(column.categories) - MOST_SHOWN} more" if len(column.categories) > MOST_SHOWN else ""
        gaps = "; one more for empty cells" if column.has_gaps else ""
        text = f"an input for each of {shown}{more}, 1 for the row's own, else 0{gaps}"
        return InputColumn(name, "category", text, len(column.categories) + column.has_gaps)
    num_inputs = len(column.numbers) + sum(number.has_gaps for number in column.numbers)
    if column.kind == "date":
        parts = ", ".join(str(number.part).replace("_", " ") for number in column.numbers)
        each = "each scaled" if len(column.numbers) > 1 else "scaled"
        return InputColumn(name, "date", f"its {parts}, {each}{_describe_gaps(column.numbers)}", num_inputs)
    [number] = column.numbers
    return InputColumn(
        name, "number", _describe_scaling(number.shift, number.scale) + _describe_gaps([number]), num_inputs
    )


def _describe_scaling(shift: float | None, scale: float | None) -> str:
    """Return how a number reaches the network."""
    if shift is None or scale is None:
        return "as it is"
    return f"(value - {shift:.4g}) / {1 / scale:.4g}"


def _describe_gaps(numbers: Sequence[Number]) -> str:
    if not any(number.has_gaps for number in numbers):
        return ""
    return (
        f"; an empty cell counts as {numbers[0].fill:.4g}, and an input says so"
        if len(numbers) == 1
        else ("; an empty cell counts as their means, and an input says so")
    )


def _describe_outputs(schema: Schema) -> str:
    names = ", ".join(printable(name) for name in schema.target_names or ())
    of = f" of {names}" if names else ""
    if schema.labels is not None:
        return f"{schema.num_outputs} probabilities, one for each of {names}: that it is {_list_seconds(schema)}"
    if schema.classes is not None:
        shown = ", ".join(map(printable, schema.classes[:MOST_SHOWN]))
        more = f" and {len(schema.classes) - MOST_SHOWN} more" if len(schema.classes) > MOST_SHOWN else ""
        return f"{schema.num_outputs} probabilities{of}, one for each class ({shown}{more}); the largest is the answer"
    count = "A number" if schema.num_outputs == 1 else f"{schema.num_outputs} numbers"
    return f"{count}{': ' + names if names else ''}, in the units of the data"


def _list_seconds(schema: Schema) -> str:
    return ", ".join(printable(pair[1]) for pair in schema.labels or ())


def weigh(story: ModelStory) -> NDArray[np.float64]:
    """Return what each example counts, (n,)."""
    return np.ones(len(story.actual)) if story.weights is None else story.weights
