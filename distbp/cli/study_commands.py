"""`distbp study batch-size`, `study workers` and `study order`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from distbp.cli.options import AsJson, ConfigFile, Debug, Overrides
from distbp.cli.terminal import Terminal, open_terminal

if TYPE_CHECKING:
    from distbp.lab.lab import Lab

study = typer.Typer(rich_markup_mode="rich")

OUT_HELP = "Folder for report, plots and numbers. A study that was stopped goes on there"
Minutes = Annotated[float, Option(metavar="M", help="After so long, no further learning rates are tried", min=0.05)]
NumTrials = Annotated[int, Option("--trials", metavar="N", help="Learning rates tried at each batch size", min=1)]
BatchSizes = Annotated[
    str | None, Option(metavar="1,8,64", show_default=False, help="Without: powers of two up to all examples")
]
Goals = Annotated[
    str | None,
    Option(
        metavar="0.1,0.05", show_default=False, help="Validation errors to reach. Without: derived from a pilot run"
    ),
]


@study.callback(invoke_without_command=True)
def _study(context: typer.Context) -> None:
    """Measure how batch size, workers or the order of the examples change training, and write a report."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@study.command("batch-size")
def batch_size(
    context: typer.Context,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    out: Annotated[str, Option(metavar="DIR", help=OUT_HELP)] = "studies/batch-size",
    minutes: Minutes = 1,
    num_trials: NumTrials = 24,
    batch_sizes: BatchSizes = None,
    goals: Goals = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show how mini-batches cut computation time: steps, examples and seconds to a goal for every batch size."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.cli.kernels import load_config_for_run
        from distbp.cli.tables import format_pairs
        from distbp.lab.settings import parse_numbers, parse_whole_numbers
        from distbp.study.batch_size.report import describe, summarize, write_batch_size_report
        from distbp.study.batch_size.study import BatchSizeSettings, check_settings, identify, study_batch_size

        config = load_config_for_run(config_file, overrides or [])
        settings = BatchSizeSettings(
            minutes,
            num_trials,
            batch_sizes=None if batch_sizes is None else parse_whole_numbers("--batch-sizes", batch_sizes),
            goals=None if goals is None else parse_numbers("--goals", goals)[::-1],
        )
        check_settings(config.recipe, settings)
        with _open(context, terminal, out, identify(config.recipe, settings), config.placement) as lab:
            findings = study_batch_size(config.recipe, settings, lab)
            page = write_batch_size_report(findings, lab.folder)
        terminal.show(format_pairs({**describe(findings), "report": str(page)}))
        terminal.document({**summarize(findings), "out": out, "report": str(page)})


@study.command("workers")
def workers(
    context: typer.Context,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    out: Annotated[str, Option(metavar="DIR", help=OUT_HELP)] = "studies/workers",
    counts: Annotated[str, Option("--workers", metavar="1,2,4", help="Numbers of workers to measure")] = "1,2,3,4",
    batch_size_study: Annotated[
        str | None,
        Option(
            metavar="DIR", show_default=False, help="Folder of a batch-size study to build on. Without: a short search"
        ),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what more workers bring: step times in parts, a cost model checked where it was not fitted, predictions."""
    with open_terminal(as_json, debug) as terminal:
        from pathlib import Path

        from distbp.cli.kernels import load_config_for_run
        from distbp.cli.tables import format_pairs
        from distbp.lab.settings import parse_whole_numbers
        from distbp.study.workers.report import describe, summarize, write_workers_report
        from distbp.study.workers.study import WorkersSettings, check_settings, identify, study_workers

        config = load_config_for_run(config_file, overrides or [])
        origin = None if batch_size_study is None else Path(batch_size_study)
        settings = WorkersSettings(parse_whole_numbers("--workers", counts), origin)
        check_settings(config.recipe, settings)
        with _open(context, terminal, out, identify(config.recipe, settings), config.placement) as lab:
            findings = study_workers(config.recipe, config.placement, settings, lab)
            page = write_workers_report(findings, lab.folder)
        terminal.show(format_pairs({**describe(findings), "report": str(page)}))
        terminal.document({**summarize(findings), "out": out, "report": str(page)})


@study.command("order")
def order(
    context: typer.Context,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    out: Annotated[str, Option(metavar="DIR", help=OUT_HELP)] = "studies/order",
    runs: Annotated[int, Option(metavar="N", help="Runs of each kind, besides the reference")] = 8,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show whether the order of the examples matters, against other initial weights and one flipped bit."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.cli.kernels import load_config_for_run
        from distbp.cli.tables import format_pairs
        from distbp.study.order.report import describe, summarize, write_order_report
        from distbp.study.order.study import OrderSettings, check_settings, identify, study_order

        config = load_config_for_run(config_file, overrides or [])
        settings = OrderSettings(runs)
        check_settings(config.recipe, settings)
        with _open(context, terminal, out, identify(config.recipe, settings), config.placement) as lab:
            findings = study_order(config.recipe, settings, lab)
            page = write_order_report(findings, lab.folder)
        terminal.show(format_pairs({**describe(findings), "report": str(page)}))
        terminal.document({**summarize(findings), "out": out, "report": str(page)})


@study.command("links")
def links(
    context: typer.Context,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    out: Annotated[str, Option(metavar="DIR", help=OUT_HELP)] = "studies/links",
    mbit: Annotated[float, Option(metavar="N", help="Bandwidth of each host's link in Mbit/s", min=0.001)] = 50,
    hosts: Annotated[int, Option(metavar="N", help="Hosts that could train together", min=2)] = 4,
    steps: Annotated[str, Option(metavar="1,5,20", help="Steps between two commits to try")] = "1,5,20",
    replicas: Annotated[str, Option(metavar="2,4", help="Numbers of replicas to try")] = "2,4",
    trials: Annotated[int, Option(metavar="N", help="Choices of learning rates tried for each way", min=1)] = 8,
    goal: Annotated[
        float | None,
        Option(metavar="E", show_default=False, help="Validation error to reach. Without: derived", min=1e-9),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show whether rounds of local steps help where links are slow: seconds, bytes and what they cost in error."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.cli.kernels import load_config_for_run
        from distbp.cli.tables import format_pairs
        from distbp.lab.settings import parse_whole_numbers
        from distbp.study.links.cost import Links
        from distbp.study.links.report import describe, summarize, write_links_report
        from distbp.study.links.study import LinksSettings, check_settings, identify, study_links

        config = load_config_for_run(config_file, overrides or [])
        lengths, counts = parse_whole_numbers("--steps", steps), parse_whole_numbers("--replicas", replicas)
        settings = LinksSettings(Links(hosts, mbit), lengths, counts, trials, goal)
        check_settings(config.recipe, settings)
        with _open(context, terminal, out, identify(config.recipe, settings), config.placement) as lab:
            findings = study_links(config.recipe, settings, lab)
            page = write_links_report(findings, lab.folder)
        terminal.show(format_pairs({**describe(findings), "report": str(page)}))
        terminal.document({**summarize(findings), "out": out, "report": str(page)})


@contextmanager
def _open(
    context: typer.Context, terminal: Terminal, out: str, identity: dict[str, Any], placement: Any
) -> Iterator[Lab]:
    """Yield the lab in the folder `out`; after a signal the message ends with the command that continues."""
    from pathlib import Path

    from distbp.cli.next_steps import format_resume_command
    from distbp.cli.study_progress import show_study_progress
    from distbp.errors import InterruptedRunError
    from distbp.installation import need
    from distbp.lab.session import open_lab

    need("the page of a study", "matplotlib", "jinja2")  # before minutes of measuring
    try:
        with show_study_progress(terminal.notes) as observe, open_lab(Path(out), identity, placement, observe) as lab:
            yield lab
    except InterruptedRunError as stop:
        raise type(stop)(f"{stop}: {format_resume_command(context.obj)}") from None
