"""`distbp doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text
from typer import Option

from distbp.cli.options import AsJson, ConfigFile, Debug, Overrides
from distbp.cli.terminal import open_terminal
from distbp.cli.train_command import Backend, Storage, Workers, override_placement

if TYPE_CHECKING:
    from distbp.doctor import Finding

Address = Annotated[
    str | None, Option(metavar="HOST:PORT", show_default=False, help="Ray cluster to examine; implies --backend ray")
]
_MARKS = {"ok": ("ok     ", "green"), "warning": ("warning", "yellow"), "problem": ("problem", "bold red")}
_INDENT = " " * 9


def doctor(
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    backend: Backend = None,
    address: Address = None,
    workers: Workers = None,
    storage: Storage = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what this machine or cluster will do to a run: each fact, and what to do about it.

    Exit code 0 if the run can work, else the one that it would end with.
    """
    with open_terminal(as_json, debug) as terminal:
        from distbp.cli.kernels import load_config_for_run
        from distbp.doctor import diagnose

        backend = "ray" if address is not None and backend is None else backend
        placement = {"backend": backend, "address": address, "workers": workers, "storage": storage}
        config = load_config_for_run(config_file, [*(overrides or []), *override_placement(placement)])
        diagnosis = diagnose(config)
        terminal.show(*map(format_finding, diagnosis.findings))
        findings = [asdict(finding) for finding in diagnosis.findings]
        terminal.document({"usable": diagnosis.exit_code == 0, "exit_code": diagnosis.exit_code, "findings": findings})
        raise typer.Exit(diagnosis.exit_code)


def format_finding(finding: Finding) -> Text:
    """Return the fact on one line and what to do about it on the next."""
    mark, style = _MARKS[finding.level]
    text = Text.assemble((mark, style), "  ", (f"{finding.topic}: ", "bold"), finding.fact)
    if finding.advice is not None:
        text.append(f"\n{_INDENT}-> {finding.advice}", "dim")
    return text
