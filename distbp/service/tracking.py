"""A run in an MLflow tracking server: parameters, metrics, the digest, and at the end report and weights.

Everything that talks to the server happens in a thread of its own, so a server that is down, slow or full costs the
run nothing: points gather, the oldest are dropped when they are too many, and what failed is tried again.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from distbp.config import Config
from distbp.config.identity import flatten
from distbp.errors import ConfigError, InterruptedRunError
from distbp.installation import VERSION, need
from distbp.run import RunDirectory
from distbp.run.storage.folder import Folder, join_url
from distbp.run.storage.opening import open_folder
from distbp.service.points import Point, Points
from distbp.text.json_text import decode_object, encode_document
from distbp.training import Progress, Result

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

logger = logging.getLogger("distbp")

EXPERIMENT = "distbp"
IDS_FILE = "mlflow.json"
"""In the run's folder: the id of the MLflow run by tracking URI, so that a resumed run goes on in it."""
INTERVAL_S = 2.0
MAX_WAITING = 50_000
MAX_BATCH = 1000  # of metrics, MLflow's limit; for parameters it is 100
MAX_PARAMETERS = 100
MAX_VALUE = 500
FIRST_RETRY_S, MAX_RETRY_S = 0.5, 30.0
END_S, INTERRUPTED_END_S, END_WITHOUT_ANSWER_S = 120.0, 10.0, 5.0
_MANNERS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # with MLflow's own, one request may take 14 minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # which is for one JSON document
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nobody asked for it
}
"""Settings of MLflow for this process, where the user has none."""
_SCHEMES = ("http", "https", "databricks", "sqlite", "mysql", "postgresql", "mssql", "file")


class MlflowTracking:
    """An observer of one run; use it with `with`, and `conclude` with the result inside.

    uri: the tracking server, such as http://HOST:5000. MLflow's experiment is `distbp` unless MLFLOW_EXPERIMENT_NAME
    says otherwise. On the way out it waits for the server for a bounded time.
    """

    def __init__(self, uri: str, config: Config):
        """Raises ConfigError without MLflow's package, or for what is no tracking URI."""
        _check_uri(uri)
        for key, value in _MANNERS.items():
            os.environ.setdefault(key, value)
        need("tracking with MLflow", "mlflow")  # loaded before anything is trained
        self._link = _Link(uri, config)
        self._points = Points(INTERVAL_S)

    def __call__(self, progress: Progress) -> None:
        """Take in a step."""
        self._link.add(progress.run, self._points.take(progress))

    def finish(self, progress: Progress) -> None:
        """Take in the last evaluation."""
        self._link.add(progress.run, self._points.take_rest(progress))

    @property
    def waiting(self) -> list[Point]:
        """Points that the server has not taken yet, the oldest first; at most MAX_WAITING."""
        return self._link.list_waiting()

    def conclude(self, result: Result) -> None:
        """Have the digest, the report and the final weights logged."""
        name = result.run.rstrip("/").rpartition("/")[2]
        self._link.end(name, "FINISHED", lambda target: target.log_result(result))

    def __enter__(self) -> Self:
        self._link.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is not None:
            is_stop = isinstance(error, InterruptedRunError | KeyboardInterrupt)
            reason = " ".join(str(error).split())[:MAX_VALUE]
            self._link.end(
                None, "KILLED" if is_stop else "FAILED", lambda target: target.set_tag("distbp.ended", reason)
            )
        self._link.close()


class _Link:
    """The thread that talks to the server, and what waits for it."""

    def __init__(self, uri: str, config: Config):
        self._uri = uri
        self._config = config
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Point, int]] = deque(maxlen=MAX_WAITING)
        self._num_dropped = 0
        self._run: str | None = None
        self._ending: tuple[str, Callable[[_Target], None]] | None = None
        self._is_ending = self._is_done = self._is_abandoned = False
        self._is_down = self._is_success = False
        self._thread = threading.Thread(target=self._work, name="mlflow-tracking", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, run: str, points: list[Point]) -> None:
        """Have points logged. The first call tells the run's name."""
        if not points and self._run is not None:
            return
        now_ms = int(time.time() * 1000)
        with self._changed:
            self._run = run
            self._num_dropped += max(0, len(self._waiting) + len(points) - MAX_WAITING)
            self._waiting.extend((point, now_ms) for point in points)
            self._changed.notify_all()

    def list_waiting(self) -> list[Point]:
        """Return the points that wait, the oldest first."""
        with self._changed:
            return [point for point, _ in self._waiting]

    def end(self, run: str | None, status: str, act: Callable[[_Target], None]) -> None:
        """Have the MLflow run ended with a status, after what waits and `act`."""
        with self._changed:
            self._run = run or self._run
            self._ending = status, act
            self._is_success = status == "FINISHED"
            self._changed.notify_all()

    def close(self) -> None:
        """Wait until all is logged: not for long where the server does not answer, and not for ever where it does."""
        began = time.monotonic()
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
            while not self._is_done and time.monotonic() - began < self._choose_patience_s():
                self._changed.wait(0.1)
            self._is_abandoned = not self._is_done
            self._changed.notify_all()
        if self._is_abandoned:
            logger.warning(
                "MLflow at %s did not take everything about this run; what the run wrote to storage is complete",
                hide_password(self._uri),
            )
        elif self._num_dropped:
            logger.warning("MLflow: %s points were more than could wait and are lost", f"{self._num_dropped:,}")

    def _choose_patience_s(self) -> float:
        if self._is_down:
            return END_WITHOUT_ANSWER_S
        return END_S if self._is_success else INTERRUPTED_END_S

    def _work(self) -> None:
        target: _Target | None = None
        delay_s = FIRST_RETRY_S
        while self._has_work():
            try:
                target = target or _Target(self._uri, self._config, self._run or "")
                target.open()
                self._log(target)
                delay_s = FIRST_RETRY_S
                self._is_down = False
            except Exception as error:  # MLflow and what it talks through raise anything; the next try may succeed
                self._note(error)
                self._pause(delay_s)
                delay_s = min(MAX_RETRY_S, 2 * delay_s)
        with self._changed:
            self._is_done = True
            self._changed.notify_all()

    def _pause(self, delay_s: float) -> None:
        """Wait before the next try, at the end of the run only briefly."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_ending, delay_s):
                return
            self._changed.wait_for(lambda: self._is_abandoned, FIRST_RETRY_S)

    def _has_work(self) -> bool:
        """Return True when there is something to log, False when there is nothing and the end has come."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_ending or self._run is not None)
            self._changed.wait_for(lambda: self._is_ending or self._waiting or self._ending is not None)
            has_some = bool(self._waiting) or self._ending is not None
            return has_some and self._run is not None and not self._is_abandoned

    def _log(self, target: _Target) -> None:
        with self._changed:
            batch = [self._waiting[index] for index in range(min(MAX_BATCH, len(self._waiting)))]
            num_dropped = self._num_dropped
        if batch:
            target.log_points(batch)
            with self._changed:
                for _ in range(len(batch) - (self._num_dropped - num_dropped)):  # else dropped already
                    self._waiting.popleft()
        elif self._ending is not None:
            status, act = self._ending
            act(target)
            target.end(status)
            self._ending = None

    def _note(self, error: Exception) -> None:
        if not self._is_down and not self._is_abandoned:
            text = hide_password(" ".join(str(error).split()))[:200]
            logger.warning(
                "cannot log to MLflow at %s: %s; training goes on, and it is tried again",
                hide_password(self._uri),
                text or type(error).__name__,
            )
        self._is_down = True


class _Target:
    """One MLflow run: the one that this run of ours has already on that server, else a new one."""

    def __init__(self, uri: str, config: Config, name: str):
        """Ask nobody yet. Every method raises whatever MLflow raises, or StorageError, and may be called again then."""
        from mlflow import MlflowClient

        self._client: MlflowClient = MlflowClient(tracking_uri=uri)
        self._key = hide_password(uri)
        self._config = config
        self._name = name
        self._folder = open_folder(join_url(config.placement.storage, name))
        self._id = ""
        self._is_open = False

    def open(self) -> None:
        """Find or create the MLflow run and log what is known from the start; does nothing when that is done."""
        if self._is_open:
            return
        self._id = self._id or self._resume() or self._create()
        ids = _read_ids(self._folder)
        if ids.get(self._key) != self._id:
            self._folder.write(IDS_FILE, encode_document({**ids, self._key: self._id}))
        self._log_texts()
        self._is_open = True

    def log_points(self, points: Iterable[tuple[Point, int]]) -> None:
        """Log finite values; the others are in the run's own log."""
        from mlflow.entities import Metric

        metrics: list[Metric] = [
            Metric(point.name, point.value, time_ms, point.step)
            for point, time_ms in points
            if math.isfinite(point.value)
        ]
        if metrics:
            self._client.log_batch(self._id, metrics=metrics)

    def log_result(self, result: Result) -> None:
        """Log the digest and the figures of a finished run, its report and its weights."""
        from safetensors.numpy import save_file

        from distbp.prediction.trained_run import load_run
        from distbp.report import read_story, write_report

        figures = {name: value for name, value in vars(result).items() if isinstance(value, int | float)}
        now_ms = int(time.time() * 1000)
        points = [(Point(f"result/{name}", float(value), result.steps), now_ms) for name, value in figures.items()]
        self.log_points(points)
        self.set_tag("distbp.digest", result.digest)
        with tempfile.TemporaryDirectory(prefix="distbp-mlflow-") as folder:
            write_report([read_story(result.run)], Path(folder) / "report.html")
            weights = {name: array.copy() for name, array in load_run(result.run).parameters.items()}
            save_file(weights, Path(folder) / "weights.safetensors", {"digest": result.digest})
            (Path(folder) / "result.json").write_bytes(encode_document(vars(result)))
            self._client.log_artifacts(self._id, folder)

    def set_tag(self, name: str, value: str) -> None:
        """Set one tag of the MLflow run."""
        self._client.set_tag(self._id, name, value)

    def end(self, status: str) -> None:
        """End the MLflow run: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self._id, status)

    def _resume(self) -> str | None:
        """Return the id of the MLflow run that is there already, set to work again; None if there is none."""
        from mlflow.exceptions import MlflowException

        found = _read_ids(self._folder).get(self._key)
        if not isinstance(found, str):
            return None
        try:
            run = self._client.get_run(found)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        if run.info.lifecycle_stage != "active":
            return None
        self._client.update_run(found, status="RUNNING")
        return found

    def _create(self) -> str:
        experiment_name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        experiment = self._client.get_experiment_by_name(experiment_name)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(experiment_name)
        return str(self._client.create_run(experiment_id, run_name=self._name).info.run_id)

    def _log_texts(self) -> None:
        """Log what the run is. MLflow keeps a parameter as it was: what has changed, such as epochs, is a tag."""
        from mlflow.entities import Param, RunTag

        recipe = RunDirectory(self._folder).read_config().recipe  # the settled one, which is trained
        values = {name: str(value)[:MAX_VALUE] for name, value in flatten(recipe, "recipe.")}
        known = self._client.get_run(self._id).data.params
        params = [Param(*pair) for pair in values.items() if pair[0] not in known]
        for start in range(0, len(params), MAX_PARAMETERS):
            self._client.log_batch(self._id, params=params[start : start + MAX_PARAMETERS])
        tags = {"distbp.run": self._folder.url, "distbp.version": VERSION, "distbp.recipe": recipe.digest}
        tags |= {name: value for name, value in values.items() if known.get(name, value) != value}
        tags |= {name: str(value)[:MAX_VALUE] for name, value in flatten(self._config.placement, "placement.")}
        self._client.log_batch(self._id, tags=[RunTag(*pair) for pair in tags.items()])


def hide_password(text: str) -> str:
    """Return a text without the user and password of the URLs in it."""
    return re.sub(r"(\w://)[^/@\s]+@", r"\1", text)


def _check_uri(uri: str) -> None:
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme not in _SCHEMES:
        raise ConfigError(f"--mlflow '{hide_password(uri)}' is no tracking URI; expected one such as http://HOST:5000")


def _read_ids(folder: Folder) -> dict[str, Any]:
    try:
        return decode_object(folder.read(IDS_FILE) or b"{}")
    except (ValueError, json.JSONDecodeError):  # damaged: as if there were none
        return {}
