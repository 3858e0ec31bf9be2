"""The measures of a network as people read them, each with what it means."""

from __future__ import annotations

from distbp.pages.words import number, percent
from distbp.report.model import ModelStory
from distbp.training.measures import ClassMeasures, LabelMeasures, NumberMeasures


def list_measures(model: ModelStory) -> list[tuple[str, str, str]]:
    """Return name, value and meaning of each measure of the task; the loss comes last."""
    measures, accuracy = model.report.measures, model.report.accuracy
    found: list[tuple[str, str, str]] = []
    if isinstance(measures, ClassMeasures):
        found = _of_classes(measures, accuracy)
    elif isinstance(measures, LabelMeasures):
        found = _of_labels(measures)
    elif isinstance(measures, NumberMeasures):
        found = _of_numbers(measures)
    return [*found, ("loss", number(model.report.loss), "what training makes small")]


def _of_classes(measures: ClassMeasures, accuracy: float | None) -> list[tuple[str, str, str]]:
    most = percent(measures.largest_class)
    return [
        ("accuracy", percent(accuracy), f"how often it is right; naming the largest class always: {most}"),
        ("balanced accuracy", percent(measures.balanced_accuracy), "the same, each class counting alike"),
        *_of_rank(measures.roc_auc, measures.average_precision),
        ("log loss", number(measures.log_loss), "how far its probabilities are from the truth; 0 is best"),
    ]


def _of_labels(measures: LabelMeasures) -> list[tuple[str, str, str]]:
    most = percent(measures.largest_class)
    return [
        ("each right", percent(measures.label_accuracy), f"of all labels; naming the more frequent always: {most}"),
        ("all right", percent(measures.exact_match), "of all examples, those whose labels are all right"),
        *_of_rank(measures.roc_auc, measures.average_precision),
    ]


def _of_rank(roc_auc: float | None, average_precision: float | None) -> list[tuple[str, str, str]]:
    meaning = "chance that one that is so gets a higher probability than one that is not; by guessing 0.5"
    rows = [
        ("ROC AUC", roc_auc, meaning),
        ("average precision", average_precision, "precision, averaged over all thresholds; 1 is best"),
    ]
    return [(name, number(value), meaning) for name, value, meaning in rows if value is not None]


def _of_numbers(measures: NumberMeasures) -> list[tuple[str, str, str]]:
    return [
        ("R2", number(measures.r2), "1 is perfect; always saying the mean: 0"),
        ("MAE", number(measures.mae), "mean size of an error, in the units of the data"),
        ("RMSE", number(measures.rmse), "the same, large errors counting more"),
    ]
