"""Using a run: evaluate and predict from its directory alone, on any machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distbp.backends.base import summarize
from distbp.config import Config, Recipe
from distbp.data import PreparedData, Schema, as_source, prepare, read_examples, read_features, take_features
from distbp.data.fingerprint import find_changed_part, fingerprint
from distbp.errors import CheckpointError, ConfigError, DataError
from distbp.nn.blas import compute_exactly, fixed_arithmetic
from distbp.nn.digests import digest
from distbp.nn.model import IGNORED, Sums
from distbp.prediction.network import Network
from distbp.protocol.examples import Examples
from distbp.protocol.supply import Supply
from distbp.run import Checkpoint, CheckpointStore, RunDirectory
from distbp.run.position import Position
from distbp.training.checkpoint_contents import check_data, check_recipe, make_checkpoint, read_flat, read_scaling
from distbp.training.measures import (
    ClassMeasures,
    LabelMeasures,
    NumberMeasures,
    measure_classes,
    measure_labels,
    measure_numbers,
)
from distbp.training.plan import Builder, make_plan, model_spec

Label = str | int | bool


@dataclass(frozen=True)
class Predictions:
    """What a network says of n examples.

    outputs: (n, O), a probability for each class, or a value for each target; (n, T, K) for sequences of T classes.
    labels: (n,) or (n, T), the most probable class's own label; None for regression.
    """

    outputs: NDArray
    labels: NDArray | None


@dataclass(frozen=True)
class ClassScore:
    """One class in an evaluation; precision, recall and f1 are 0 where nothing was predicted or nothing is there.

    Of sequences every place that is learned counts.
    """

    label: Label
    precision: float
    recall: float
    f1: float
    num_examples: int


@dataclass(frozen=True)
class EvaluationReport:
    """Loss (mean over what model.loss_per says), accuracy and a row for each class; the last two not for regression.

    measures: of examples with one class each, or of numbers, which a network with a loss of its own may not predict;
    None for data in blocks.
    """

    loss: float
    accuracy: float | None
    num_examples: int
    classes: tuple[ClassScore, ...] | None
    measures: ClassMeasures | LabelMeasures | NumberMeasures | None = None


class TrainedRun:
    """The network in one checkpoint of a run, with the run's preprocessing and class labels."""

    def __init__(self, run: RunDirectory, checkpoint: Checkpoint, builder: Builder | None = None):
        """builder: of the run's PyTorch module, where the name that it stored cannot be imported."""
        self.run = run
        self.config: Config = run.read_config()
        self.step = checkpoint.step
        self.digest = checkpoint.digest
        self._data = checkpoint.data
        self.schema = Schema.from_json(dict(checkpoint.schema), read_scaling(checkpoint.tensors))
        spec = model_spec(self.config.recipe, self.schema, builder)
        flat = read_flat("parameters", spec.build().layout, checkpoint.tensors, self.config.recipe.dtype)
        _check_origin(run, flat, checkpoint)
        self.network = Network(self.schema, spec, flat)

    @cached_property
    def parameters(self) -> dict[str, NDArray]:
        """The parameters by name, "0.weight" (O, I), "0.bias" (O,), ..."""
        return self.network.parameters

    @fixed_arithmetic()
    def predict(self, data: str | os.PathLike[str] | ArrayLike) -> Predictions:
        """Return predictions for a source like `recipe.data.source`, or for raw features (n, I) or (n, *input_shape).

        A table in memory (pyarrow, pandas, polars) is read by its columns' names. No examples give no predictions.

        Raises DataError if the data do not fit what the run was trained on.
        """
        if not isinstance(data, str | os.PathLike):
            return self.predict_examples(take_features(self.schema, data))
        pieces = read_features(self.schema, as_source(data), self.config.recipe.data.target)
        return self._to_predictions(np.concatenate(list(map(self.network.outputs, pieces))))

    @fixed_arithmetic()
    def predict_examples(self, examples: Examples) -> Predictions:
        """Return predictions for examples that were read as the run's own."""
        return self._to_predictions(self.network.outputs(examples))

    def _to_predictions(self, outputs: NDArray) -> Predictions:
        if self.schema.labels is not None:
            columns = zip(self.schema.labels, outputs.T, strict=True)
            return Predictions(outputs, np.array([np.array(pair)[(a > 0.5).astype(int)] for pair, a in columns]).T)
        if self.schema.classes is None:
            return Predictions(self.network.in_units(outputs), None)
        return Predictions(outputs, np.array(self.schema.classes)[outputs.argmax(axis=-1)])

    @fixed_arithmetic()
    def evaluate(self, data: str | os.PathLike[str] | None = None) -> EvaluationReport:
        """Return how well the network does on `data`; None: on the run's own validation examples.

        Raises DataError, also when there is no validation part and no data are named.
        """
        return self.evaluate_examples(self.judged_examples(data))

    def judged_examples(self, data: str | os.PathLike[str] | None = None) -> Examples | Supply:
        """Return the examples of `data`, read as the run's own; None: its own validation examples. Raises DataError."""
        return self._own_validation() if data is None else self._read(data)

    @fixed_arithmetic()
    def evaluate_examples(self, examples: Examples | Supply) -> EvaluationReport:
        """Return how well the network does on examples that were read as the run's own."""
        network, sums = self.network, list[Sums]()
        predicted, actual = list[NDArray](), list[NDArray]()
        with network.spec.pinned():
            predict = partial(network.model.predict, self.parameters)
            for x, y, *weights in network.chunks(examples):
                sums.append(compute_exactly(partial(network.model.loss_sums, self.parameters, x, y, *weights)))
                if self.schema.classes is not None:
                    predicted.append(compute_exactly(partial(predict, x)).argmax(axis=-1))
                    actual.append(y)
        total = summarize(sums, self.schema.task == "classification")
        known = self.schema.classes
        is_answer = known is not None and all((part < len(known)).all() for part in predicted)
        classes = _score_all(known, predicted, actual) if known is not None and is_answer else None
        measures = self._measure(examples) if isinstance(examples, Examples) else None
        return EvaluationReport(total.loss, total.accuracy, len(examples), classes, measures)

    def _measure(self, examples: Examples) -> ClassMeasures | LabelMeasures | NumberMeasures | None:
        """Return the measures of the task; None for sequences, no examples, and outputs of another meaning.

        Such as those of a loss of the user's own, which may be more or fewer than there are classes or targets.
        """
        if self.schema.target_shape or not len(examples):
            return None
        outputs, y = self.network.outputs(examples), examples.y[examples.rows]
        if outputs.shape != (len(examples), self.schema.num_outputs):
            return None
        weights = examples.take_weights(slice(None))
        if self.schema.classes is not None:
            return measure_classes(outputs, y, weights)
        if self.schema.labels is not None:
            return measure_labels(outputs, y, weights)
        return measure_numbers(self.network.in_units(outputs), y, weights)

    def _own_validation(self) -> Examples | Supply:
        validation = self.own_data().validation
        if validation is None:
            raise DataError(f"'{self.run.url}' was trained without validation data; name some with --data")
        return validation

    def own_data(self) -> PreparedData:
        """Return the data of the run itself, both parts.

        Raises DataError where they are not, value by value, those it was trained and judged on.
        """
        data = prepare(self.config.recipe.data, self.config.recipe.seed)
        part = find_changed_part(self._data, data, fingerprint(data))
        if part is not None:
            raise DataError(_describe_change(self.run.url, self.config.recipe, part))
        return data

    def _read(self, source: object) -> Examples | Supply:
        return read_examples(self.schema, as_source(source), self.config.recipe.data.target)


def _describe_change(url: str, recipe: Recipe, part: str) -> str:
    data = recipe.data
    if part == "validation" and isinstance(data.validation, str):
        return f"the validation data in '{data.validation}' are not those of '{url}'; restore the file, or use --data"
    held_out = "" if isinstance(data.validation, str) else ", so its validation part may hold training examples now"
    return (
        f"the data in '{data.source}' are not those that '{url}' was trained on{held_out}; "
        "restore the file, or name other data with --data"
    )


def _check_origin(run: RunDirectory, parameters: NDArray, checkpoint: Checkpoint) -> None:
    """Raise CheckpointError unless this is the recipe and these are the parameters that were trained together."""
    check_recipe(run, checkpoint)
    if digest(parameters) != checkpoint.digest:
        raise CheckpointError(f"the parameters of the checkpoint of step {checkpoint.step} do not have its digest")


def _score_all(
    labels: Sequence[Label], predicted: Sequence[NDArray], actual: Sequence[NDArray]
) -> tuple[ClassScore, ...]:
    """Return the score of each class from chunks of class numbers, without the places that are not learned."""
    expected = np.concatenate(actual).astype(np.int64)  # of sequences they come in the model's number format
    learned = expected != IGNORED
    return _score_classes(labels, np.concatenate(predicted)[learned], expected[learned])


def _score_classes(labels: Sequence[Label], predicted: NDArray, actual: NDArray) -> tuple[ClassScore, ...]:
    """Return the score of each class. predicted, actual: (n,) class numbers."""
    counts = [
        np.bincount(found, minlength=len(labels)) for found in (predicted[predicted == actual], predicted, actual)
    ]
    return tuple(_score(label, *map(int, row)) for label, row in zip(labels, np.transpose(counts), strict=True))


def _score(label: Label, hits: int, num_predicted: int, num_actual: int) -> ClassScore:
    f1 = 2 * hits / (num_predicted + num_actual) if num_predicted + num_actual else 0.0
    return ClassScore(label, hits / max(num_predicted, 1), hits / max(num_actual, 1), f1, num_actual)


def load_run(run: str, step: int | Literal["final", "best"] = "final", *, model: Builder | None = None) -> TrainedRun:
    """Return the network of a run, given by path or URL.

    step: "final" is what the run ended with (of an unfinished run, the newest checkpoint), "best" the checkpoint
    with the lowest validation loss, a number the checkpoint after that many steps; 0 is the untrained network, which
    is drawn again from the recipe's seed and needs the run's data. model: builds the run's PyTorch module, where the
    name that the run stored cannot be imported here.

    Raises CheckpointError if `run` is none or has no such checkpoint.
    """
    directory = RunDirectory.open(run)
    store = CheckpointStore(directory, keep=1)
    checkpoint = _load(directory, store, step, model)
    if checkpoint is None:
        raise CheckpointError(f"'{directory.url}' has no usable checkpoint yet; train it first")
    return TrainedRun(directory, checkpoint, model)


def parse_step(text: str) -> int | Literal["final", "best"]:
    """Return what `load_run` takes as `step` from its text. Raises ConfigError for anything else."""
    if text == "final":
        return "final"
    if text == "best":
        return "best"
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"step={text!r} is none; expected final, best, or the number of a step")
    return int(text)


def _load(
    directory: RunDirectory, store: CheckpointStore, step: int | Literal["final", "best"], builder: Builder | None
) -> Checkpoint | None:
    if step == "best":
        return store.load_best()
    if step == 0:
        return _draw_initial(directory, builder, store.newest_data())
    if isinstance(step, int):
        return store.load(step)
    result = directory.read_result()
    if result is None:
        return store.load_latest()
    final_step = result.get("final_step")
    if not isinstance(final_step, int):
        raise CheckpointError(f"result.json of '{directory.url}' is damaged: it has no final_step; name a step instead")
    return store.load(final_step)


def _draw_initial(directory: RunDirectory, builder: Builder | None, stored: Mapping[str, object] | None) -> Checkpoint:
    """Return the untrained network. stored: the data's fingerprint in a checkpoint of the run, if there is one."""
    config = directory.read_config()
    plan = make_plan(config, prepare(config.recipe.data, config.recipe.seed), builder)
    if stored is not None:
        check_data(plan, stored)
    return make_checkpoint(plan, plan.initial_state(), Position())
