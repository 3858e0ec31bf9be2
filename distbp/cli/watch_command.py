"""`distbp watch`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from distbp.cli.options import AsJson, Debug
from distbp.cli.service_commands import Address
from distbp.cli.terminal import Terminal, open_terminal

if TYPE_CHECKING:
    from distbp.service.jobs import JobServer
    from distbp.watch import JobFeed, RunFeed, Watch

Runs = Annotated[
    list[str],
    Argument(metavar="RUN...", show_default=False, help="A run's path or URL, or a job of a cluster; or several"),
]
Once = Annotated[bool, Option("--once", help="Show how things are now, and end; so it is where there is no terminal")]
Html = Annotated[
    int | None,
    Option(
        metavar="PORT",
        min=0,
        max=65535,
        show_default=False,
        help="Serve it as a live page on this machine; 0: any port",
    ),
]


def watch(
    runs: Runs,
    once: Once = False,
    html: Html = None,
    address: Address = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Watch runs live: progress, loss curve, accuracy, speed, who works, and what happened.

    It only reads what a run writes to its storage, so it never disturbs the run, and may start and end at any time.
    """
    with open_terminal(as_json, debug) as terminal:
        from distbp.watch import Watch

        observed = Watch([_open(run, address) for run in runs])
        if html is not None:
            _serve(terminal, observed, html)
        elif once or as_json or not _is_terminal():
            _show_once(terminal, observed)
        else:
            _show_live(observed)


def _open(name: str, address: str | None) -> RunFeed | JobFeed:
    """Return what tells about a run, or about a job where a cluster is known and no run has this name."""
    from distbp.errors import CheckpointError, ConfigError
    from distbp.watch import RunFeed

    try:
        return RunFeed(name)
    except CheckpointError as error:
        if "/" in name:
            raise
        try:
            return _open_job(name, address)
        except ConfigError as no_job:
            raise CheckpointError(f"{error}; and {no_job}") from None


def _open_job(name: str, address: str | None) -> JobFeed:
    from distbp.errors import ConfigError
    from distbp.run.storage.folder import join_url
    from distbp.service.jobs import JobServer
    from distbp.watch import JobFeed

    server = JobServer(address)
    job = server.find(name)
    if job.run is None or job.storage is None:
        raise ConfigError(
            f"job '{job.submission_id}' was submitted without --name, so its run is not known; "
            "name the run itself, distbp list STORAGE shows what is there"
        )
    return JobFeed(name, join_url(job.storage, job.run), _describer(server, job.submission_id))


def _describer(server: JobServer, submission_id: str) -> Callable[[], tuple[str, bool]]:
    def describe() -> tuple[str, bool]:
        job = server.look_up(submission_id)
        reason = server.explain_end(job)
        return f"job {submission_id} is {job.status}" + (f": {reason}" if reason else ""), job.has_ended

    return describe


def _is_terminal() -> bool:
    from rich.console import Console

    console = Console()
    return console.is_terminal and not console.is_dumb_terminal


def _show_live(observed: Watch) -> None:
    from rich.console import Console

    from distbp.watch.live import show_live

    with observed:
        show_live(observed, Console(highlight=False))


def _show_once(terminal: Terminal, observed: Watch) -> None:
    from rich.text import Text

    from distbp.watch.terminal_view import view_run

    states = observed.states
    width = terminal.notes.width
    screens = [Text("\n").join(view_run(state, width, 40)) for state in states]
    terminal.show(Text("\n\n").join(screens))
    terminal.document({"runs": [state.to_json() for state in states]})


def _serve(terminal: Terminal, observed: Watch, port: int) -> None:
    from distbp.watch.server import serve

    with observed, serve(observed, port) as url:
        terminal.show(f"{url}  (Ctrl-C ends it; the runs go on)")
        while True:
            observed.wait_for_look(1.0)
            observed.check()
