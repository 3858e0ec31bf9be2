"""The commands of `distbp` and the way through them: parse, run, report, exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from distbp.cli.advise_command import advise
from distbp.cli.attest_command import attest
from distbp.cli.config_command import config
from distbp.cli.data_commands import data
from distbp.cli.doctor_command import doctor
from distbp.cli.drill_command import drill
from distbp.cli.explain_command import explain_command
from distbp.cli.export_command import export
from distbp.cli.failures import explain
from distbp.cli.report_command import report
from distbp.cli.service_commands import list_jobs, logs, result, status, stop, submit
from distbp.cli.streams import abandon_stdout, prepare_streams
from distbp.cli.study_commands import study
from distbp.cli.terminal import Terminal
from distbp.cli.train_command import train
from distbp.cli.use_commands import evaluate, predict, verify
from distbp.cli.watch_command import watch
from distbp.errors import StorageError
from distbp.installation import VERSION

BROKEN_PIPE = 141  # what a shell reports for a program that SIGPIPE ended

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(study, name="study")
app.add_typer(data, name="data")
for command in (train, evaluate, predict, verify, export, drill, doctor, config, advise):
    app.command()(command)
app.command()(report)
for job_command in (submit, status, logs, stop, result):
    app.command()(job_command)
app.command("list")(list_jobs)
app.command("explain")(explain_command)
app.command()(watch)
app.command()(attest)


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    prepare_streams()
    try:
        code = app(list(argv), obj=tuple(argv), prog_name="distbp", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        abandon_stdout()
        return BROKEN_PIPE
    except SystemExit:  # Typer's way to say that a pipe broke
        return BROKEN_PIPE
    except BaseException as error:
        failure = explain(error)
        Terminal("--json" in argv).fail(failure)
        return failure.exit_code
    finally:
        _flush_quietly()
    return code if isinstance(code, int) else 0


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit")] = False,
) -> None:
    """Train neural networks by data-parallel SGD: the same recipe gives the same bytes, wherever it runs."""
    if version:
        typer.echo(f"distbp {VERSION}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _flush_quietly() -> None:
    """Flush stdout now, so that Python has nothing to complain about at exit."""
    try:
        sys.stdout.flush()
    except (OSError, StorageError):
        abandon_stdout()
