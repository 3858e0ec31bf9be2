"""From labels and targets as stored to what training needs: class numbers, or float64 targets.

Shape legend: N examples, O outputs, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distbp.data.finite import check_finite
from distbp.data.raw import RawExamples
from distbp.data.reading import list_names
from distbp.errors import DataError
from distbp.nn.model import IGNORED

Task = Literal["classification", "regression"]
Label = str | int | bool

FEWEST_EXAMPLES_PER_CLASS = 4  # on average; fewer look like a measured value or an identifier
ALWAYS_PLAUSIBLE_CLASSES = 20
LARGEST_WHOLE_FLOAT = 2.0**53


@dataclass(frozen=True)
class TargetSpec:
    """What the targets mean: K classes in the order of their numbers, or O real outputs.

    target_shape: (T,) where each example has a sequence of T classes, which are their own numbers.
    """

    task: Task
    classes: tuple[Label, ...] | None
    num_outputs: int
    target_shape: tuple[int, ...] = ()


def specify_targets(raw: RawExamples, task: Task | None) -> TargetSpec:
    """Return what the training targets mean; the classes are sorted, numbers by size and text by character.

    Raises DataError when they do not fit the task, or a task left open cannot be told with confidence.
    """
    sequences = read_sequences(raw, task)
    if sequences is not None:
        num_classes = int(sequences.max()) + 1
        return TargetSpec("classification", tuple(range(num_classes)), num_classes, sequences.shape[1:])
    labels = read_labels(raw, task)
    if labels is None:
        y = _targets_of(raw)
        return TargetSpec("regression", None, 1 if y.ndim == 1 else y.shape[1])
    return specify_classes(tuple(np.unique(labels).tolist()), len(labels), raw.origin, is_task_open=task is None)


def read_sequences(raw: RawExamples, task: Task | None) -> NDArray | None:
    """Return the classes of every example, (N, T), where each has a sequence of them; else None. Raises DataError."""
    y = _targets_of(raw)
    is_sequence = task == "classification" and y.ndim == 2 and y.dtype.kind in "iu"
    return _check_sequences(raw, y) if is_sequence else None


def read_labels(raw: RawExamples, task: Task | None) -> NDArray | None:
    """Return the label of every example, (N,); None where the targets are those of a regression."""
    y = _targets_of(raw)
    if (task or _infer_task(y)) == "regression":
        _check_numeric(raw, y)
        return None
    return _to_labels(raw, y)


def specify_classes(classes: tuple[Label, ...], num_examples: int, origin: str, is_task_open: bool) -> TargetSpec:
    """Return what the sorted labels of `num_examples` examples mean.

    Raises DataError for a single class, and where nobody said that these are classes and there are too many.
    """
    if len(classes) < 2:
        raise DataError(f"every target of {origin} is {classes[0]!r}; classification needs at least 2 classes")
    if is_task_open:
        _check_plausible(classes, num_examples, origin)
    return TargetSpec("classification", classes, len(classes))


def encode_targets(raw: RawExamples, spec: TargetSpec) -> NDArray:
    """Return (N,) int64 class numbers, or (N, O) float64 targets.

    Raises DataError for a label that is none of the classes, and for targets of another number.
    """
    y = _targets_of(raw)
    if spec.target_shape:
        return _number_sequences(raw, y, spec)
    if spec.classes is not None:
        return _number_labels(raw, _to_labels(raw, y), spec.classes)
    _check_numeric(raw, y)
    columns = y[:, None] if y.ndim == 1 else y
    if columns.shape[1] != spec.num_outputs:
        raise DataError(f"{raw.origin} has {columns.shape[1]} targets per example; expected {spec.num_outputs}")
    check_finite(columns, raw.locate_target, raw.origin)
    return columns.astype(np.float64)


def _check_sequences(raw: RawExamples, y: NDArray) -> NDArray:
    """Return (N, T) classes, which are numbers from 0 on, or IGNORED; every example has one that is learned."""
    wrong = np.argwhere((y < 0) & (y != IGNORED))
    if len(wrong):
        row, place = wrong[0].tolist()
        raise DataError(
            f"y[{row}, {place}] of {raw.origin} is {y[row, place]}; the classes of a sequence are numbers from 0 on, "
            f"or {IGNORED} where nothing is to be learned"
        )
    empty = np.flatnonzero((y == IGNORED).all(axis=1))
    if len(empty):
        raise DataError(
            f"every class of y[{empty[0]}] of {raw.origin} is {IGNORED}, so there is nothing to learn from it; "
            "leave such examples out"
        )
    return y


def _number_sequences(raw: RawExamples, y: NDArray, spec: TargetSpec) -> NDArray[np.int64]:
    if y.ndim != 2 or y.shape[1:] != spec.target_shape or y.dtype.kind not in "iu":
        raise DataError(
            f"the targets of {raw.origin} have shape {y.shape} and dtype {y.dtype}; expected a sequence of "
            f"{spec.target_shape[0]} whole numbers per example"
        )
    if int(_check_sequences(raw, y).max()) >= spec.num_outputs:
        raise DataError(f"{raw.origin} has the class {y.max()}, which training did not: it knew {spec.num_outputs}")
    return y.astype(np.int64)


def _targets_of(raw: RawExamples) -> NDArray:
    if raw.y is None:
        raise DataError(f"{raw.origin} was read without targets; expected them")
    # A damaged file's booleans may be bytes other than 0 and 1.
    return raw.y.view(np.uint8) != 0 if raw.y.dtype == bool else raw.y


def _infer_task(y: NDArray) -> Task:
    return "classification" if y.ndim == 1 and y.dtype.kind in "Oiub" else "regression"


def _check_numeric(raw: RawExamples, y: NDArray) -> None:
    if y.dtype == object:
        raise DataError(f"the targets of {raw.origin} are text such as {y.flat[0]!r}; regression needs numbers")


def _to_labels(raw: RawExamples, y: NDArray) -> NDArray:
    """Return (N,) labels: text, booleans or integers; floats that are all whole become integers."""
    if y.ndim > 1:
        raise DataError(
            f"{raw.origin} has {y.shape[1]} targets per example; classification needs one label "
            "(of one-hot rows, store the number of the column that is 1)"
        )
    if y.dtype.kind != "f":
        return y
    check_finite(y[:, None], raw.locate_target, raw.origin)
    broken = np.flatnonzero((y != np.floor(y)) | (np.abs(y) > LARGEST_WHOLE_FLOAT))
    if len(broken):
        where, value = raw.locate_target(int(broken[0]), 0), y[broken[0]].item()
        raise DataError(f"{where} of {raw.origin} is {value}; class labels are whole numbers, or use task: regression")
    return y.astype(np.int64)


def _check_plausible(classes: tuple[Label, ...], num_examples: int, origin: str) -> None:
    if len(classes) <= max(ALWAYS_PLAUSIBLE_CLASSES, num_examples // FEWEST_EXAMPLES_PER_CLASS):
        return
    is_text = isinstance(classes[0], str)
    advice = "name another target" if is_text else "set task: regression if the target is a quantity"
    raise DataError(
        f"{origin} has {len(classes)} different labels in {num_examples} examples, too many for classes; {advice}, "
        "or set task: classification if every label is a class"
    )


def _number_labels(raw: RawExamples, labels: NDArray, classes: tuple[Label, ...]) -> NDArray[np.int64]:
    numbers = {label: number for number, label in enumerate(classes)}
    found, positions = np.unique(labels, return_inverse=True)
    unknown = [label for label in found.tolist() if label not in numbers]
    if unknown:
        known = list_names(classes)
        raise DataError(f"{raw.origin} has the label {unknown[0]!r}, which training did not; its classes are {known}")
    return np.array([numbers[label] for label in found.tolist()], np.int64)[positions]
