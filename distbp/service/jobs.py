"""Training runs as Ray jobs: submit, look, follow, stop, fetch the result. States are Ray's own words."""

from __future__ import annotations

import asyncio
import logging
import shlex
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.job_submission import JobDetails

from distbp.config import Config
from distbp.errors import ConfigError, DistbpError, StorageError, TerminatedRunError
from distbp.machine.deadline import within
from distbp.service.connection import CALL_TIMEOUT_S, ask, connect, find_address, knock, translated
from distbp.service.job_log import LogLines, find_document
from distbp.service.package import CONFIG_FILE, list_requirements, pack

RUN_KEY, STORAGE_KEY = "distbp_run", "distbp_storage"
STOP_WAIT_S = 120
"""Ray's 3 seconds between SIGTERM and SIGKILL are too few to finish a step and write a checkpoint."""
AGENT_TIMEOUT_S = 30.0
LOG_TIMEOUT_S = 120.0
SLOWEST_BYTES_PER_S = 100_000
"""A line slower than that is given up while it carries the job's folder."""
QUIET_S = 20.0
POLL_S = 0.5
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")

logger = logging.getLogger("distbp")


@dataclass(frozen=True)
class Job:
    """What Ray says of one job. run, storage: what it was submitted with, None for jobs of others.

    exit_code: the driver's, once it has ended by itself; Ray keeps none for a job that was stopped.
    """

    submission_id: str
    status: str
    run: str | None
    storage: str | None
    message: str | None
    exit_code: int | None
    start_time_ms: int | None
    end_time_ms: int | None

    @property
    def has_ended(self) -> bool:
        """Whether it is in one of the states that Ray never leaves."""
        return self.status in ENDED

    @property
    def end_code(self) -> int:
        """The exit code of a command that waited for its end: the job's own, 143 if it was stopped, else 1."""
        if self.exit_code is not None:
            return self.exit_code
        return {"SUCCEEDED": 0, "STOPPED": TerminatedRunError.exit_code}.get(self.status, 1)


class JobServer:
    """A connection to the job server of one Ray cluster. Every method raises ClusterError if that is lost."""

    def __init__(self, address: str | None = None):
        """Connect. Raises ConfigError without an address, ClusterError if nobody answers or the token is refused."""
        self.address = find_address(address)
        self._client = connect(self.address)

    def submit(
        self,
        config: Config,
        name: str | None,
        resume: str = "auto",
        installs: bool = False,
        options: Sequence[str] = (),
    ) -> Job:
        """Send a run and return its job; the same name again resumes the run.

        installs: whether the nodes first install what distbp needs. options: further ones for `distbp train`.

        Raises ConfigError or DataError for what can be seen to fail before anything is sent.
        """
        self._refuse_second(name, config.placement.storage)
        argv = ["python3", "-m", "distbp", "train", CONFIG_FILE, "--resume", resume, "--json", *options]
        argv += ["--name", name] if name is not None else []
        with tempfile.TemporaryDirectory(prefix="distbp-job-") as folder:
            package = pack(config, Path(folder))
            logger.info("%s", package.describe())
            environment: dict[str, Any] = {
                "working_dir": folder,
                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)},
            }
            if installs:
                environment["pip"] = list_requirements(config)
            submission_id = self._send(
                CALL_TIMEOUT_S + package.num_bytes / SLOWEST_BYTES_PER_S,
                entrypoint=f"exec {shlex.join(argv)}",  # so that Ray's SIGTERM reaches distbp and not a shell
                submission_id=f"{name or 'distbp'}-{uuid.uuid4().hex[:6]}",
                metadata={RUN_KEY: name or "", STORAGE_KEY: config.placement.storage},
                runtime_env=environment,
            )
        return self.look_up(submission_id)

    def _send(self, timeout_s: float, **job: Any) -> str:
        """Submit, and once more while the head answers already but its agent, which starts jobs, does not yet."""
        deadline = time.monotonic() + AGENT_TIMEOUT_S
        with translated(self.address):
            while True:
                try:
                    return str(within(timeout_s, lambda: self._client.submit_job(**job)))
                except RuntimeError as error:
                    if "No available agent" not in str(error) or time.monotonic() > deadline:
                        raise
                time.sleep(POLL_S)

    def find(self, name: str) -> Job:
        """Return the job of this submission id, else the newest job of the run of this name.

        Raises ConfigError if there is none.
        """
        jobs = self.list()
        found = [job for job in jobs if job.submission_id == name] or _by_claim(job for job in jobs if job.run == name)
        if not found:
            known = ", ".join(job.submission_id for job in jobs[:5]) or "none"
            raise ConfigError(f"no job '{name}' at {self.address}; jobs there: {known}")
        return found[0]

    def look_up(self, submission_id: str) -> Job:
        """Return the job of this submission id."""

        def get_info() -> JobDetails:
            knock(self.address)
            return self._client.get_job_info(submission_id)

        return _to_job(ask(self.address, get_info))

    def list(self) -> list[Job]:
        """Return all jobs submitted through Ray Jobs, the newest first."""
        jobs = [_to_job(details) for details in ask(self.address, self._client.list_jobs) if details.submission_id]
        return sorted(jobs, key=lambda job: job.start_time_ms or 0, reverse=True)

    def logs(self, job: Job) -> str:
        """Return all that the job has printed so far."""
        return str(ask(self.address, lambda: self._client.get_job_logs(job.submission_id), LOG_TIMEOUT_S))

    def stop(self, job: Job) -> bool:
        """Ask a job to write a checkpoint and end; return whether it was running."""
        return bool(ask(self.address, lambda: self._client.stop_job(job.submission_id)))

    def wait(self, job: Job) -> Job:
        """Return the job once it has ended."""
        while not job.has_ended:
            time.sleep(POLL_S)
            job = self.look_up(job.submission_id)
        return job

    def follow(self, job: Job, show: Callable[[str], None]) -> Job:
        """Return the job once it has ended; show whole lines of what it prints meanwhile, but not its document."""
        lines = LogLines(show)
        while not job.has_ended:
            lines.restart()
            with suppress(Exception):  # a connection that breaks; `look_up` says if the cluster is gone
                asyncio.run(self._tail(job, lines))
            time.sleep(POLL_S)
            job = self.look_up(job.submission_id)
        lines.restart()
        lines.add(self.logs(job))
        lines.finish()
        return job

    async def _tail(self, job: Job, lines: LogLines) -> None:
        """Pass on what the job prints, until it ends, the connection ends, or nothing has come for a while.

        A head that loses its power closes no connection.
        """
        pieces = self._client.tail_job_logs(job.submission_id)
        while True:
            try:
                lines.add(await asyncio.wait_for(anext(pieces), QUIET_S))
            except StopAsyncIteration:
                return

    def result(self, job: Job) -> dict[str, Any]:
        """Return the document that `distbp train --json` printed at the end of the job.

        Raises DistbpError if the job has not SUCCEEDED or printed none.
        """
        if job.status != "SUCCEEDED":
            reason = self.explain_end(job)
            logs = self._name_command("logs", job.submission_id)
            advice = reason or f"its result is there when it has SUCCEEDED; {logs} says more"
            raise DistbpError(f"job '{job.submission_id}' is {job.status}: {advice}")
        document = find_document(self.logs(job))
        if document is None:
            raise DistbpError(f"job '{job.submission_id}' printed no result; was it submitted without distbp submit?")
        return document

    def explain_end(self, job: Job) -> str | None:
        """Return why a job ended early: the sentence that distbp printed, else Ray's; None while it runs."""
        if not job.has_ended or job.status == "SUCCEEDED":
            return None
        error = (find_document(self.logs(job)) or {}).get("error") or {}
        if "message" in error:
            return str(error["message"])
        return " ".join((job.message or "Ray gives no reason").split())[:300]

    def _name_command(self, command: str, submission_id: str) -> str:
        """Return a command as it can be typed."""
        return f"distbp {command} {shlex.quote(submission_id)} --address {shlex.quote(self.address)}"

    def _refuse_second(self, name: str | None, storage: str) -> None:
        """Raise ConfigError if a job is at work on the same run already: it would only find the run locked."""
        for job in self.list() if name is not None else []:
            if (job.run, job.storage) == (name, storage) and not job.has_ended:
                logs = self._name_command("logs -f", job.submission_id)
                raise ConfigError(
                    f"job '{job.submission_id}' is {job.status} and has the run '{name}'; "
                    f"follow it with {logs}, stop it, or choose another --name"
                )


def _by_claim(jobs: Iterable[Job]) -> list[Job]:
    """Return jobs of one run, the newest first, but those that storage refused (exit code 4) after all others.

    A second job of a run that another one holds ends like that, and says nothing about the run.
    """
    return sorted(jobs, key=lambda job: job.exit_code == StorageError.exit_code)


def _to_job(details: JobDetails) -> Job:
    metadata = details.metadata or {}
    return Job(
        submission_id=details.submission_id,
        status=details.status.value,
        run=metadata.get(RUN_KEY) or None,
        storage=metadata.get(STORAGE_KEY) or None,
        message=details.message,
        exit_code=details.driver_exit_code,
        start_time_ms=details.start_time,
        end_time_ms=details.end_time,
    )
