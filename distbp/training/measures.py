"""How good predictions are, by measures that fit the task. Pure; definitions are scikit-learn's.

Shape legend: N examples, K classes, O targets. weights: (N,), or None where all count the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SMALLEST = np.finfo(np.float64).eps
"""Probabilities are at least this in the log loss, as in scikit-learn."""


@dataclass(frozen=True)
class ClassMeasures:
    """Of a classification.

    largest_class: the share of the class that has most examples: the accuracy of always saying that one. roc_auc and
    average_precision: of two classes those of the second, of more the mean of each class against the others, None
    where a class is absent. confusion: how often class i (row) was called class j (column).
    """

    largest_class: float
    balanced_accuracy: float
    log_loss: float
    roc_auc: float | None
    average_precision: float | None
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class LabelMeasures:
    """Of several targets of two classes each: means over the targets. exact_match: how often all of them are right."""

    label_accuracy: float
    exact_match: float
    largest_class: float
    roc_auc: float | None
    average_precision: float | None


@dataclass(frozen=True)
class NumberMeasures:
    """Of a regression, in the units of the targets; means over several targets. R2 is 0 for always saying the mean."""

    rmse: float
    mae: float
    r2: float


def measure_classes(probabilities: NDArray, actual: NDArray[np.int64], weights: NDArray | None = None) -> ClassMeasures:
    """Return the measures of (N, K) probabilities against (N,) class numbers."""
    weight = np.ones(len(actual)) if weights is None else weights
    num_classes = probabilities.shape[1]
    counts = np.bincount(actual, weight, num_classes)
    hits = np.bincount(actual, weight * (probabilities.argmax(axis=1) == actual), num_classes)
    present = counts > 0
    scores = probabilities.astype(np.float64)
    total = scores.sum(axis=1, keepdims=True)
    chosen = np.clip((scores / np.where(total > 0, total, 1))[np.arange(len(actual)), actual], SMALLEST, 1)
    columns = [1] if num_classes == 2 else range(num_classes)
    pairs = [(actual == column, scores[:, column]) for column in columns]
    whole = bool(present.all())
    confusion = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion, (actual, probabilities.argmax(axis=1)), 1)
    return ClassMeasures(
        largest_class=float(counts.max() / counts.sum()),
        balanced_accuracy=float((hits[present] / counts[present]).mean()),
        log_loss=float((weight * -np.log(chosen)).sum() / weight.sum()),
        roc_auc=float(np.mean([roc_auc(*pair, weight) for pair in pairs])) if whole else None,
        average_precision=float(np.mean([average_precision(*pair, weight) for pair in pairs])) if whole else None,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def measure_labels(probabilities: NDArray, actual: NDArray, weights: NDArray | None = None) -> LabelMeasures:
    """Return the measures of (N, O) probabilities against (N, O) zeros and ones."""
    weight = np.ones(len(actual)) if weights is None else weights
    is_right = (probabilities > 0.5) == (actual > 0.5)
    shares = np.average(actual, axis=0, weights=weight)
    pairs = [(y > 0.5, a) for y, a in zip(actual.T, probabilities.T, strict=True)]
    both = bool(((shares > 0) & (shares < 1)).all())
    return LabelMeasures(
        label_accuracy=float(np.average(is_right.mean(axis=1), weights=weight)),
        exact_match=float(np.average(is_right.all(axis=1), weights=weight)),
        largest_class=float(np.maximum(shares, 1 - shares).mean()),
        roc_auc=float(np.mean([roc_auc(*pair, weight) for pair in pairs])) if both else None,
        average_precision=float(np.mean([average_precision(*pair, weight) for pair in pairs])) if both else None,
    )


def measure_numbers(predicted: NDArray, actual: NDArray, weights: NDArray | None = None) -> NumberMeasures:
    """Return the measures of (N, O) predictions against (N, O) targets; targets that do not vary count R2 as 0 or 1."""
    counts = np.ones(len(actual)) if weights is None else weights
    weight = (counts / counts.sum())[:, None]
    off = predicted - actual
    squares = (weight * off**2).sum(axis=0)
    spread = (weight * (actual - (weight * actual).sum(axis=0)) ** 2).sum(axis=0)
    r2 = np.where(spread > 0, 1 - squares / np.where(spread > 0, spread, 1), np.where(squares > 0, 0.0, 1.0))
    return NumberMeasures(
        rmse=float(np.sqrt(squares).mean()),
        mae=float((weight * np.abs(off)).sum(axis=0).mean()),
        r2=float(r2.mean()),
    )


def roc_auc(is_positive: NDArray[np.bool_], scores: NDArray, weights: NDArray) -> float:
    """Return the area under the ROC curve: the chance that a positive has the higher score, ties counting half."""
    hits, alarms = _count_above(is_positive, scores, weights)
    return float(np.trapezoid(np.r_[0, hits], np.r_[0, alarms]) / (hits[-1] * alarms[-1]))


def average_precision(is_positive: NDArray[np.bool_], scores: NDArray, weights: NDArray) -> float:
    """Return the sum over thresholds of the precision there times the recall gained there."""
    hits, alarms = _count_above(is_positive, scores, weights)
    called = hits + alarms
    precision = hits / np.where(called > 0, called, 1)
    return float((np.diff(np.r_[0, hits / hits[-1]]) * precision).sum())


def _count_above(is_positive: NDArray[np.bool_], scores: NDArray, weights: NDArray) -> tuple[NDArray, NDArray]:
    """Return the weight of positives and of others at each threshold, from the highest score down."""
    order = np.argsort(-scores, kind="stable")
    positive = np.cumsum(np.where(is_positive, weights, 0)[order])
    others = np.cumsum(np.where(is_positive, 0, weights)[order])
    ends = np.r_[np.flatnonzero(np.diff(scores[order])), len(scores) - 1]
    return positive[ends], others[ends]
