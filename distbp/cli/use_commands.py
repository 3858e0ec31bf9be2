"""`distbp evaluate`, `predict` and `verify`: what is done with a run once it is trained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from distbp.cli.options import AsJson, Debug, Run, Step
from distbp.cli.terminal import open_terminal

if TYPE_CHECKING:
    from distbp.prediction.trained_run import EvaluationReport, TrainedRun

DATA_HELP = "digits, or a path: IDX folder, .npz, .npy, .csv, .tsv, .parquet"
OwnData = Annotated[
    str | None, Option(metavar="DATA", show_default=False, help=f"{DATA_HELP}. Without: the run's validation part")
]
NewData = Annotated[str, Option(metavar="DATA", show_default=False, help=DATA_HELP)]
Out = Annotated[str, Option(metavar="FILE", show_default=False, help="Where to write: .csv, .parquet or .npz")]
Keep = Annotated[
    list[str] | None,
    Option("--keep", metavar="COLUMN", show_default=False, help="Write this column of the data too. Repeatable"),
]
Page = Annotated[
    str | None, Option("--page", metavar="FILE", show_default=False, help="Write a page with the plots, too: .html")
]
Probabilities = Annotated[bool, Option("--probabilities", help="Write the probability of every class too")]
Deep = Annotated[
    bool, Option("--deep", help="Compute the step where they part again, and name the microbatch and the tensor")
]
OtherRun = Annotated[str, Argument(metavar="RUN_B", show_default=False, help="The run to compare it with")]


def evaluate(
    run: Run,
    data: OwnData = None,
    step: Step = "final",
    page: Page = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show loss, accuracy and how well each class is told apart."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.cli.tables import format_report, make_class_table, make_confusion_table
        from distbp.prediction.trained_run import load_run, parse_step

        trained = load_run(run, parse_step(step))
        report = trained.evaluate(data) if page is None else _write_page(trained, data, page)
        terminal.show(format_report(trained, report))
        if report.classes is not None:
            terminal.show("", make_class_table(report))
        if (confusion := make_confusion_table(trained, report)) is not None:
            terminal.show("", confusion)
        terminal.document({"run": run, "step": trained.step, "digest": trained.digest, "data": data, **asdict(report)})


def _write_page(trained: TrainedRun, data: str | None, page: str) -> EvaluationReport:
    """Write the page and return the figures that are on it."""
    from distbp.report import describe_model, write_model_page

    model = describe_model(trained, data)
    write_model_page(model, trained, Path(page))
    return model.report


def predict(
    run: Run,
    data: NewData,
    out: Out,
    probabilities: Probabilities = False,
    keep: Keep = None,
    step: Step = "final",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write what the network says of each example; the file's suffix says in which format."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.data import read_columns
        from distbp.prediction.output import check_not_input, choose_writer, keep_columns, tabulate
        from distbp.prediction.trained_run import load_run, parse_step

        check_not_input(out, data)
        write = choose_writer(out)
        trained = load_run(run, parse_step(step))
        kept = read_columns(data, keep) if keep else {}
        table = keep_columns(tabulate(trained.predict(data), trained.schema, probabilities), kept)
        write(table)
        terminal.show(f"{table.num_rows:,} predictions in {out}: {table.describe_columns()}")
        terminal.document(
            {
                "run": run,
                "step": trained.step,
                "digest": trained.digest,
                "data": data,
                "out": out,
                "num_examples": table.num_rows,
                "columns": list(table.columns),
            }
        )


def verify(run_a: Run, run_b: OtherRun, deep: Deep = False, as_json: AsJson = False, debug: Debug = False) -> None:
    """Tell whether two finished runs are the same bytes, else the first step where they part (exit code 9)."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.cli.failures import explain
        from distbp.cli.tables import describe_difference, format_sameness
        from distbp.errors import DigestsDifferError
        from distbp.verification.verify import verify as compare

        verdict = compare(run_a, run_b)
        if verdict.same:
            terminal.show(format_sameness(run_a, run_b, verdict))
            terminal.document({"run_a": run_a, "run_b": run_b, **asdict(verdict)})
            return
        sentence, found = _look_deep(run_a, run_b, verdict.first_difference) if deep else ("", {})
        failure = explain(DigestsDifferError(describe_difference(run_a, run_b, verdict) + sentence))
        terminal.fail(failure, {"run_a": run_a, "run_b": run_b, **asdict(verdict), **found})
        raise typer.Exit(failure.exit_code)


def _look_deep(run_a: str, run_b: str, step: int | None) -> tuple[str, dict[str, object]]:
    """Return where two runs part inside a step, or why that cannot be said: they differ in any case."""
    from distbp.cli.kernels import use_kernels_of
    from distbp.cli.proof_words import describe_parting
    from distbp.errors import DistbpError
    from distbp.run import RunDirectory
    from distbp.verification.deep import find_parting

    if step is None:
        return "; no step that both have logged differs, so none was computed again", {"parting": None}
    try:
        for run in (run_a, run_b):
            use_kernels_of(RunDirectory.open(run).read_config())
        parting = find_parting(run_a, run_b, step)
    except DistbpError as error:
        return f"; where in step {step} cannot be said: {error}", {"parting": None, "missing": str(error)}
    return f"; {describe_parting(parting, run_a, run_b)}", {"parting": asdict(parting)}
