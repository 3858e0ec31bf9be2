"""Results as people read them. Everything fits 80 columns; the digest and paths are never broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from distbp.text.printable import printable

if TYPE_CHECKING:
    from distbp.drill import DrillReport
    from distbp.prediction.trained_run import EvaluationReport, TrainedRun
    from distbp.training import Result
    from distbp.training.measures import ClassMeasures, LabelMeasures, NumberMeasures
    from distbp.verification.verify import Verdict


BESIDE = 0.25
"""A smaller share of the largest class tells nothing that the accuracy does not."""


def format_result(result: Result) -> Text:
    """Return what a run ended with."""
    early = ", stopped early" if result.stopped_early else ""
    kept = f", kept those of step {result.final_step:,}" if result.final_step != result.steps else ""
    return format_pairs(
        {
            "accuracy": _format_accuracy(result.validation_accuracy, "validation", result.largest_class),
            "R2": _format_r2(result.validation_r2),
            "loss": _format_losses(result.train_loss, result.validation_loss),
            "watched": _format_monitored(result),
            "steps": f"{result.steps:,} in {_count(result.epochs, 'epoch')}{early}{kept}",
            "rounds": _format_rounds(result),
            "seconds": _format_seconds(result),
            "examples/s": f"{result.examples_per_second:,.0f}",
            "parameters": f"{result.num_parameters:,}",
            "recovered": _format_recoveries(result),
            "left": _format_preemptions(result),
            "digest": result.digest,
            "run": result.run,
        }
    )


def format_report(run: TrainedRun, report: EvaluationReport) -> Text:
    """Return loss, accuracy, and the measures of the task."""
    pairs = {
        "accuracy": _format_accuracy(report.accuracy, None),
        **_format_measures(report.measures),
        "loss": f"{report.loss:.6g}",
        "examples": f"{report.num_examples:,}",
        "step": f"{run.step:,}",
        "digest": run.digest,
    }
    return format_pairs({key: value for key, value in pairs.items() if value is not None})


def _format_measures(measures: ClassMeasures | LabelMeasures | NumberMeasures | None) -> dict[str, str | None]:
    """Return what the figures are called and what they are; R2 and the largest class say whether they are any good."""
    if measures is None:
        return {}
    values = asdict(measures)
    names = {
        "label_accuracy": "each right",
        "exact_match": "all right",
        "largest_class": "largest class",
        "balanced_accuracy": "balanced",
        "log_loss": "log loss",
        "roc_auc": "ROC AUC",
        "average_precision": "average prec.",
        "rmse": "RMSE",
        "mae": "MAE",
        "r2": "R2",
    }
    shown = {name: values[field] for field, name in names.items() if values.get(field) is not None}
    return {name: f"{value:.6g}" if name in ("RMSE", "MAE") else f"{value:.4f}" for name, value in shown.items()}


def make_confusion_table(run: TrainedRun, report: EvaluationReport, most: int = 8) -> Table | None:
    """Return how often each class (row) was called each class (column); None where there are too many, or none."""
    confusion = getattr(report.measures, "confusion", None)
    if confusion is None or run.schema.classes is None or len(confusion) > most:
        return None
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("is, called", overflow="fold")
    for label in run.schema.classes:
        table.add_column(printable(label), justify="right")
    for label, row in zip(run.schema.classes, confusion, strict=True):
        table.add_row(printable(label), *(f"{count:,}" for count in row))
    return table


def make_class_table(report: EvaluationReport) -> Table:
    """Return one row for each class."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class", overflow="fold")
    for name in ("precision", "recall", "f1", "examples"):
        table.add_column(name, justify="right")
    for score in report.classes or ():
        numbers = (f"{value:.3f}" for value in (score.precision, score.recall, score.f1))
        table.add_row(printable(score.label), *numbers, f"{score.num_examples:,}")
    return table


def format_sameness(run_a: str, run_b: str, verdict: Verdict) -> Text:
    """Return the good news that two runs are the same bytes."""
    return format_pairs(
        {
            "same": f"{run_a} and {run_b} end with the same bytes",
            "compared": f"{_count(verdict.steps, 'step')} and the final parameters",
            "digest": verdict.digest_a,
        }
    )


def make_fault_table(report: DrillReport) -> Table:
    """Return one row for each fault of a drill."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("fault")
    table.add_column("happened")
    table.add_column("next step after", justify="right")
    for outcome in report.outcomes:
        back = "-" if outcome.back_s is None else f"{outcome.back_s:.2f} s"
        table.add_row(Text(outcome.fault), "yes" if outcome.fired else "no", back)
    return table


def format_drill(report: DrillReport) -> Text:
    """Return how the two runs of a drill compare."""
    whole, disturbed = report.undisturbed, report.disturbed
    pairs = {
        "undisturbed": f"{whole.digest}",
        "disturbed": f"{disturbed.digest}",
        "seconds": f"{whole.seconds:.2f} undisturbed, {_format_seconds(disturbed)} disturbed",
        "recovered": _format_recoveries(disturbed),
        "left": _format_preemptions(disturbed),
        "runs": f"{whole.run}, {disturbed.run}",
    }
    if report.same:
        pairs = {"same": "both runs end with the same bytes", "digest": whole.digest, **dict(list(pairs.items())[2:])}
    return format_pairs(pairs)


def describe_difference(run_a: str, run_b: str, verdict: Verdict) -> str:
    """Return the sentence about two runs that are not the same bytes."""
    where = f"they part at step {verdict.first_difference}{_describe_round(verdict)}"
    if verdict.first_difference is None:
        where = f"their {_count(verdict.steps, 'logged step')} are the same" if verdict.steps else "no step is in both"
    why = (
        "their recipes are the same, so this should not be"
        if verdict.same_recipe
        else "their recipes or data differ too"
    )
    digests = f"{verdict.digest_a[:12]} and {verdict.digest_b[:12]}"
    if verdict.digest_a == verdict.digest_b:
        return f"'{run_a}' and '{run_b}' end with the same bytes, but not by the same steps: {where}; {why}"
    return f"'{run_a}' and '{run_b}' end with different bytes (digests {digests}): {where}; {why}"


def _describe_round(verdict: Verdict) -> str:
    """Return in which round and replica two runs part, "" where they were not trained in the same rounds."""
    found = verdict.round
    if found is None:
        return ""
    who = "the commit of" if found.replica is None else f"replica {found.replica} of"
    return f", in {who} the round of steps {found.first_step} to {found.last_step}"


def format_pairs(pairs: Mapping[str, str | None]) -> Text:
    """Return one line for each name and value; a value of None leaves its line out."""
    shown = {name: value for name, value in pairs.items() if value is not None}
    width = max(map(len, shown)) + 2
    lines = [Text.assemble((name.ljust(width), "bold"), printable(value)) for name, value in shown.items()]
    return Text("\n").join(lines)


def _format_rounds(result: Result) -> str | None:
    """Return how often there was a commit; None where that was after every step."""
    if result.rounds is None:
        return None
    return f"a commit after {_count(result.rounds['steps'], 'step')} of {_count(result.rounds['replicas'], 'replica')}"


def _format_monitored(result: Result) -> str | None:
    """Return what early stopping watched, other than the loss and the accuracy, which have lines of their own."""
    found = {name: value for name, value in (result.monitored or {}).items() if name != "accuracy"}
    return ", ".join(f"{name} {value:.4f} (validation)" for name, value in found.items()) or None


def _format_seconds(result: Result) -> str:
    parts = {
        "work": result.work_s,
        "waiting": result.waiting_s,
        "recomputing": result.recomputing_s,
        "checkpoints": result.checkpointing_s,
        "waiting for data": result.data_s,
    }
    return f"{result.seconds:.2f} ({', '.join(f'{name} {s:.2f}' for name, s in parts.items() if s >= 0.005)})"


def _format_preemptions(result: Result) -> str | None:
    if not result.preemptions:
        return None
    return f"{_count(result.preemptions, 'worker')} in time, having heard that they would be gone; no step again"


def _format_recoveries(result: Result) -> str | None:
    if not result.recoveries:
        return None
    return f"{_count(result.recoveries, 'time')} (longest {result.longest_recovery_s:.2f} s)"


def _format_accuracy(accuracy: float | None, part: str | None, largest_class: float | None = None) -> str | None:
    """Return the accuracy, beside the share of the largest class where that is so large that it matters."""
    if accuracy is None:
        return None
    beside = f"; naming the largest class always: {largest_class:.4f}" if (largest_class or 0) > BESIDE else ""
    return f"{accuracy:.4f}" + (f" ({part}{beside})" if part else "")


def _format_r2(r2: float | None) -> str | None:
    return None if r2 is None else f"{r2:.4f} (validation; predicting the mean always: 0)"


def _format_losses(train: float, validation: float | None) -> str:
    return f"{train:.6g} (training)" + ("" if validation is None else f", {validation:.6g} (validation)")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
