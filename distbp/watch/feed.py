"""From a run's storage to its state, look by look; each look reads only what is new."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from distbp.errors import CheckpointError
from distbp.pages.words import count
from distbp.run import CheckpointStore, RunDirectory
from distbp.run.lock import LOCK_FILE
from distbp.run.owner import LockOwner, Sign
from distbp.run.records import EVENTS_FILE, STEPS_FILE
from distbp.watch.log_tail import LogTail
from distbp.watch.state import Happened, RunState, State, Steps, estimate_seconds_left, judge_ending

ACCOUNTS = {
    "work_s": "work",
    "waiting_s": "waiting",
    "recomputing_s": "recomputing",
    "checkpointing_s": "checkpoints",
    "data_s": "waiting for data",
}


class Feed(Protocol):
    """Tells the state of one run. name: for people. interval_s: seconds between two looks that storage takes lightly.

    `look` raises StorageError where storage does not answer; later looks may work again.
    """

    name: str
    interval_s: float

    def look(self) -> RunState:
        """Return the state as it is now."""
        ...


class RunFeed:
    """Tells the state of the run at a path or URL."""

    def __init__(self, url: str):
        """Raises CheckpointError if there is no run, StorageError if storage does not answer."""
        self._run = RunDirectory.open(url)
        self.name = self._run.name
        self.interval_s = min(5.0, self._run.folder.flush_interval_s)
        self._begin()

    def look(self) -> RunState:
        """Return the state as it is now."""
        self._read_logs()
        owner = LockOwner.decode(self._run.folder.read(LOCK_FILE))
        observer = LockOwner.of_this_process()
        sign = None if owner is None else owner.examine(observer)
        result = self._read_result(sign)
        state, detail = self._judge(sign, "" if owner is None else owner.describe(observer), result)
        position = self._read_position() if result is None else result
        num_steps = self._find_num_steps(result)
        is_busy = state in ("running", "recovering")
        return RunState(
            name=self.name,
            url=self._run.url,
            state=state,
            detail=detail,
            num_steps=num_steps,
            num_epochs=self._num_epochs,
            steps=self._steps,
            happened=self._happened,
            seconds_left=estimate_seconds_left(self._steps, num_steps) if is_busy else None,
            accounts=_share_out(position),
            accounts_step=self._position_step if result is None else None,
            recoveries=_as(int, position.get("recoveries")),
            digest=None if result is None else _as(str, result.get("digest")),
            quiet_s=time.monotonic() - self._moved_at,
            note=self._trouble,
        )

    def _begin(self) -> None:
        """Know nothing: at first, and when a log turns out to be another one."""
        folder = self._run.folder
        self._step_log, self._event_log = LogTail(folder, STEPS_FILE), LogTail(folder, EVENTS_FILE)
        self._steps, self._happened = Steps(), Happened()
        self._position: Mapping[str, Any] = {}
        self._position_step: int | None = None
        self._moved_at = time.monotonic()
        self._trouble: str | None = None
        try:
            self._num_epochs: int | None = self._run.read_config().recipe.epochs
        except CheckpointError as error:
            self._num_epochs, self._trouble = None, str(error)

    def _read_logs(self) -> None:
        events, steps = self._event_log.read(), self._step_log.read()
        if events.is_restart:  # the whole run was replaced
            self._begin()
            events, steps = self._event_log.read(), self._step_log.read()
        if events.lines or steps.lines:
            self._moved_at = time.monotonic()
        self._happened = self._happened.after(events.lines)
        self._steps = (Steps() if steps.is_restart else self._steps).after(steps.lines)

    def _read_result(self, sign: Sign | None) -> dict[str, Any] | None:
        """Return the result; not looked for while a driver is at work."""
        if sign is Sign.ALIVE and not self._happened.is_finished:
            return None
        try:
            return self._run.read_result()
        except CheckpointError as error:
            self._trouble = str(error)
            return None

    def _read_position(self) -> Mapping[str, Any]:
        """Return where the run stood at its newest checkpoint."""
        step = self._happened.checkpoint_step
        if step is not None and step != self._position_step:
            position = CheckpointStore(self._run, keep=1).glance_at_position(step)
            if position is not None:  # else it is gone already, and a newer one will be told of
                self._position, self._position_step = position, step
        return self._position

    def _judge(self, sign: Sign | None, owner: str, result: Mapping[str, Any] | None) -> tuple[State, str]:
        happened = self._happened
        if result is not None:
            return "finished", "stopped early" if result.get("stopped_early") else ""
        if happened.ending is not None:
            return judge_ending(happened.ending), happened.ending.reason
        if sign is Sign.SILENT:
            return "silent", f"no sign of life from {owner}"
        if sign is Sign.ALIVE:
            return self._judge_living()
        if not happened.has_started:
            return "stopped", "no step has been done, and nobody trains it"
        return "died", "its driver ended without a word; the same command goes on from the newest checkpoint"

    def _judge_living(self) -> tuple[State, str]:
        happened = self._happened
        if happened.is_finished:
            return "running", "all steps are done; the last checkpoint is being written"
        if happened.is_formed:
            return "running", ""
        if self._steps.last is not None and happened.num_workers is not None:
            return "recovering", f"{count(happened.num_workers, 'worker')} left"
        return "waiting", "for its workers to start"

    def _find_num_steps(self, result: Mapping[str, Any] | None) -> int | None:
        if self._happened.num_steps is not None:
            return self._happened.num_steps
        if self._steps.steps_per_epoch and self._num_epochs:  # a log from before the number was told
            return self._steps.steps_per_epoch * self._num_epochs
        return None if result is None else _as(int, result.get("steps"))


class JobFeed:
    """Tells the state of a run that a job of a cluster is about to start.

    describe_job: returns what the job does, and whether it has ended; is asked until the run is there.
    """

    def __init__(self, name: str, url: str, describe_job: Callable[[], tuple[str, bool]]):
        self.name = name
        self.interval_s = 2.0
        self._url = url
        self._describe_job = describe_job
        self._feed: RunFeed | None = None

    def look(self) -> RunState:
        """Return the state as it is now."""
        if self._feed is None:
            try:
                self._feed = RunFeed(self._url)
                self.interval_s = self._feed.interval_s
            except CheckpointError:
                text, has_ended = self._describe_job()
                detail = f"{text}; no run is in '{self._url}' yet, as far as can be seen from here"
                return RunState(self.name, self._url, "failed" if has_ended else "waiting", detail)
        return replace(self._feed.look(), name=self.name)


def _share_out(position: Mapping[str, Any]) -> dict[str, float]:
    """Return the shares of the run's seconds, {} where they are not known."""
    seconds = {name: _as(float, position.get(key)) or 0.0 for key, name in ACCOUNTS.items()}
    total = sum(seconds.values())
    return {name: spent / total for name, spent in seconds.items()} if total > 0 else {}


def _as(kind: type, value: Any) -> Any:
    """Return a value if it is of this kind: stored values may be anything."""
    return value if isinstance(value, kind) and not isinstance(value, bool) else None
