"""`distbp drill`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from distbp.cli.failures import Failure
from distbp.cli.options import AsJson, ConfigFile, Debug, Overrides
from distbp.cli.terminal import Terminal, open_terminal
from distbp.cli.train_command import Backend, Storage, Workers, override_placement

if TYPE_CHECKING:
    from distbp.drill import DrillReport, Fault

Kill = Annotated[
    list[str] | None,
    Option(metavar="WHO@STEP", show_default=False, help="kill -9: worker:1@40, server@60 or driver@80. Repeatable"),
]
Hang = Annotated[
    list[str] | None, Option(metavar="WHO@STEP", show_default=False, help="SIGSTOP: worker:2@30. Repeatable")
]
Slow = Annotated[
    list[str] | None,
    Option(metavar="WHO@STEPxN", show_default=False, help="Slow down N times: worker:0@20x10. Repeatable"),
]
Preempt = Annotated[
    list[str] | None,
    Option(metavar="WHO@STEP", show_default=False, help="SIGTERM, to be heard in time: worker:1@40. Repeatable"),
]


def drill(
    config_file: ConfigFile = None,
    kill: Kill = None,
    hang: Hang = None,
    slow: Slow = None,
    preempt: Preempt = None,
    overrides: Overrides = None,
    backend: Backend = None,
    workers: Workers = None,
    storage: Storage = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train twice, once undisturbed and once with faults, and prove that both end with the same bytes.

    Without faults a worker, the server and the driver are killed, one after the other.
    """
    with open_terminal(as_json, debug) as terminal:
        from distbp.cli.kernels import load_config_for_run
        from distbp.cli.progress import show_progress
        from distbp.drill import drill as run_drill

        faults = _parse_faults({"kill": kill, "hang": hang, "slow": slow, "preempt": preempt})
        placement = {"backend": backend, "workers": workers, "storage": storage}
        config = load_config_for_run(config_file, [*(overrides or []), *override_placement(placement)])
        with show_progress(terminal.notes) as observe:
            report = run_drill(config, faults, observe=observe)
        _show(terminal, report)


def _parse_faults(texts: dict[str, list[str] | None]) -> list[Fault]:
    from distbp.drill import parse_fault

    return [parse_fault(action, text) for action, found in texts.items() for text in found or []]  # type: ignore[arg-type]  # the keys are the actions


def _show(terminal: Terminal, report: DrillReport) -> None:
    from distbp.cli.tables import format_drill, make_fault_table

    document = asdict(report)
    failure = _find_failure(report)
    terminal.show(make_fault_table(report), format_drill(report))
    if failure is None:
        terminal.document(document)
        return
    terminal.fail(failure, document)
    raise typer.Exit(failure.exit_code)


def _find_failure(report: DrillReport) -> Failure | None:
    from distbp.errors import DigestsDifferError, DistbpError

    if not report.same:
        runs = f"{report.undisturbed.run} {report.disturbed.run}"
        message = f"the disturbed run ends with other bytes; see where with: distbp verify {runs}"
        return Failure(DigestsDifferError.__name__, message, DigestsDifferError.exit_code)
    idle = [outcome.fault for outcome in report.outcomes if not outcome.fired]
    if idle:
        message = f"{' and '.join(idle)} did not happen: the process was not there any more; use an earlier step"
        return Failure(DistbpError.__name__, message, DistbpError.exit_code)
    return None
