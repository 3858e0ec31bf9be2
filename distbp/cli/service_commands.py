"""`distbp submit`, `status`, `logs`, `stop`, `list` and `result`: training runs as jobs of a Ray cluster."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text
from typer import Argument, Option

from distbp.cli.options import AsJson, ConfigFile, Debug, Overrides
from distbp.cli.terminal import Terminal, open_terminal
from distbp.cli.train_command import Mlflow, Name, Resume, Storage, TensorBoard, Workers

if TYPE_CHECKING:
    from distbp.config import Config
    from distbp.service.jobs import Job, JobServer

Address = Annotated[
    str | None,
    Option(
        metavar="URL",
        show_default=False,
        help="Ray's job server, http://HEAD:8265. Without: RAY_API_SERVER_ADDRESS, then RAY_ADDRESS",
    ),
]
JobName = Annotated[
    str, Argument(metavar="JOB", show_default=False, help="A submission id, or the name it was submitted with")
]
ListedStorage = Annotated[
    str | None,
    Argument(metavar="STORAGE", show_default=False, help="A path or URL that holds runs. Without: a cluster's jobs"),
]
Wait = Annotated[bool, Option("--wait", help="Wait for the end; the exit code is the job's")]
Follow = Annotated[bool, Option("--follow", "-f", help="Wait for the end, and show what the job prints")]
Install = Annotated[
    bool, Option("--install", help="Let the nodes install what distbp needs first, where their image lacks it")
]


def submit(
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
    workers: Workers = None,
    name: Name = None,
    storage: Storage = None,
    resume: Resume = "auto",
    tensorboard: TensorBoard = None,
    mlflow: Mlflow = None,
    wait: Wait = False,
    follow: Follow = False,
    install: Install = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Send a run to a Ray cluster as a job. The same name again resumes it, also on another cluster."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.installation import VERSION
        from distbp.run.names import validate_name
        from distbp.service.jobs import JobServer

        config = _load(config_file, overrides, workers, storage)
        if name is not None:
            validate_name(name)
        _refuse_early(config)
        server = JobServer(address)
        options = ["--tensorboard", tensorboard] if tensorboard is not None else []
        options += ["--mlflow", mlflow] if mlflow is not None else []
        job = server.submit(config, name, resume, install, options)
        terminal.note(f"{job.submission_id} submitted to {server.address} with distbp {VERSION}", "bold")
        if wait or follow:
            _await_end(terminal, server, job, follow)
            return
        terminal.show(Text(f"follow it:  distbp logs -f {job.submission_id} --address {server.address}"))
        terminal.document(asdict(job))


def status(job: JobName, address: Address = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Show the state of a job, in Ray's words."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.service.jobs import JobServer

        server = JobServer(address)
        found = server.find(job)
        _show(terminal, found, server.explain_end(found))
        terminal.document(asdict(found))


def logs(
    job: JobName, address: Address = None, follow: Follow = False, as_json: AsJson = False, debug: Debug = False
) -> None:
    """Show what a job printed; with --follow until it ends, with its exit code."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.service.jobs import JobServer

        server = JobServer(address)
        found = server.find(job)
        if follow:
            _await_end(terminal, server, found, follow)
            return
        text = server.logs(found)
        terminal.show(Text(text.rstrip("\n")))
        terminal.document({**asdict(found), "log": text})


def stop(
    job: JobName, address: Address = None, wait: Wait = False, as_json: AsJson = False, debug: Debug = False
) -> None:
    """Let a job write a checkpoint and end; submit the same name again to resume it."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.service.jobs import JobServer

        server = JobServer(address)
        found = server.find(job)
        was_running = server.stop(found)
        found = server.wait(found) if wait else server.look_up(found.submission_id)
        reason = server.explain_end(found) if was_running else "it had ended before"
        _show(terminal, found, reason)
        terminal.document(asdict(found))


def list_jobs(
    storage: ListedStorage = None, address: Address = None, as_json: AsJson = False, debug: Debug = False
) -> None:
    """List the jobs of a cluster, the newest first, or the runs in a storage."""
    with open_terminal(as_json, debug) as terminal:
        if storage is not None:
            _list_storage(terminal, storage)
            return
        from distbp.cli.job_tables import make_job_table
        from distbp.service.jobs import JobServer

        server = JobServer(address)
        jobs = server.list()
        terminal.show(make_job_table(jobs) if jobs else Text(f"no jobs at {server.address}"))
        terminal.document({"jobs": [asdict(job) for job in jobs]})


def result(job: JobName, address: Address = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Show the result of a job's run: its digest, accuracy and figures."""
    with open_terminal(as_json, debug) as terminal:
        from distbp.service.jobs import JobServer

        server = JobServer(address)
        document = server.result(server.find(job))
        _show_result(terminal, document)
        terminal.document(document)


def _load(config_file: str | None, overrides: list[str] | None, workers: str | None, storage: str | None) -> Config:
    """Return the configuration of the job; on a cluster the backend is Ray, whatever the file says."""
    from distbp.config import load_config

    settings = ['placement.backend="ray"']
    settings += [f"placement.workers={workers}"] if workers is not None else []
    settings += [f"placement.storage={json.dumps(storage, ensure_ascii=False)}"] if storage is not None else []
    return load_config(config_file, [*(overrides or []), *settings])


def _refuse_early(config: Config) -> None:
    """Raise now what would fail later on the cluster, as far as the data can be read here."""
    from distbp.data import prepare
    from distbp.service.package import check_storage, list_travelling_data
    from distbp.training.plan import make_plan

    check_storage(config.placement.storage)
    list_travelling_data(config)
    data = config.recipe.data
    names = [name for name in (data.source, data.validation) if isinstance(name, str)]
    if not any("://" in name or Path(name).expanduser().is_absolute() for name in names):  # those are read there
        make_plan(config, prepare(data, config.recipe.seed))


def _await_end(terminal: Terminal, server: JobServer, job: Job, follow: bool) -> None:
    """Wait for a job, show how it ended, and leave with its own exit code."""
    job = server.follow(job, terminal.note) if follow else server.wait(job)
    has_succeeded = job.status == "SUCCEEDED"
    document = server.result(job) if has_succeeded else None
    if document is not None and not follow:
        _show_result(terminal, document)
    _show(terminal, job, None if follow else server.explain_end(job))
    terminal.document({**asdict(job), "result": document})
    if not has_succeeded:
        raise typer.Exit(job.end_code)


def _show(terminal: Terminal, job: Job, reason: str | None) -> None:
    from distbp.cli.job_tables import describe_job

    terminal.show(describe_job(job))
    if reason is not None:
        terminal.note(reason)


def _show_result(terminal: Terminal, document: dict[str, Any]) -> None:
    from distbp.cli.tables import format_pairs

    terminal.show(format_pairs({key.replace("_", " "): str(value) for key, value in document.items()}))


def _list_storage(terminal: Terminal, storage: str) -> None:
    from distbp.cli.job_tables import make_run_table
    from distbp.service.storage import list_stored_runs
    from distbp.text.masking import mask_secrets

    runs = list_stored_runs(storage)
    terminal.show(make_run_table(runs) if runs else Text(f"no runs in '{mask_secrets(storage)}'"))
    for run in runs:
        if run.note is not None:
            terminal.note(run.note, "yellow")
    terminal.document({"runs": [asdict(run) for run in runs]})
