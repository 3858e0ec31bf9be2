"""Runs the trials of a study in parallel, stores each at once, and continues where an earlier session was stopped.

A study is written as chains: generators that yield jobs one after the other and receive their results, so that a
later trial may depend on the earlier ones of its own chain. Chains run beside each other.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from distbp.errors import DistbpError
from distbp.lab.pool import Pool
from distbp.lab.store import Store
from distbp.machine.interrupt import StopRequest

POLL_S = 0.2

T = TypeVar("T")


@dataclass(frozen=True)
class Job(Generic[T]):
    """call(argument), a function of a module, whose result is a dataclass `kind` and stored under `key`."""

    key: str
    call: Callable[[Any], T]
    argument: Any
    kind: type[T]


Chain = Generator[Job[Any], Any, T]


def single(job: Job[T]) -> Chain[T]:
    """Return the chain of one job, which returns its result."""
    result: T = yield job
    return result


@dataclass(frozen=True)
class LabProgress:
    """What an observer sees: the stage, jobs done of at most `total`, and the seconds left if they can be told."""

    stage: str
    done: int
    total: int
    seconds_left: float | None


LabObserver = Callable[[LabProgress], None]


class Lab:
    """Where the jobs of a study are carried out and remembered."""

    def __init__(self, store: Store, pool: Pool, stop: StopRequest, observe: LabObserver):
        self._store = store
        self._pool = pool
        self._stop = stop
        self._observe = observe

    @property
    def folder(self) -> Path:
        """Where the study writes."""
        return self._store.folder

    @property
    def num_processes(self) -> int:
        """How many jobs run at a time."""
        return self._pool.size

    def knows(self, job: Job[Any]) -> bool:
        """Return whether the job's result is stored already."""
        return job.key in self._store

    def seconds_spent(self, prefix: str) -> float:
        """Return how long all stored jobs took, added up, whose keys begin with `prefix`."""
        return self._store.seconds_spent(prefix)

    def measure(self, stage: str, jobs: Sequence[Job[T]]) -> list[T]:
        """Return the results of jobs carried out here one after the other, while nothing else of ours runs."""
        for number, job in enumerate(jobs):
            self._check_stop()
            self._observe(LabProgress(stage, number, len(jobs), None))
            if job.key not in self._store:
                with self._stop.at_once(self._say_stopped()):
                    result, seconds = _timed(job.call, job.argument)
                self._store.add(job.key, _adapter(job).dump_python(result, mode="json"), seconds)
        return [self._recall(job) for job in jobs]

    def run(self, stage: str, chains: Sequence[Chain[T]], num_jobs: Sequence[int]) -> list[T]:
        """Run all chains to their ends and return what they return, in order.

        num_jobs: how many jobs each chain has at most.

        Raises InterruptedRunError after a signal; what is finished is stored.
        """
        tracks = [_Track(chain, count) for chain, count in zip(chains, num_jobs, strict=True)]
        waiting = deque(tracks)
        under_way: dict[Future[Any], tuple[_Track[T], Job[Any]]] = {}
        self._check_stop()
        while waiting or under_way:
            while waiting and len(under_way) < self._pool.size:
                track = waiting.popleft()
                job = self._next_unknown(track)
                if job is not None:
                    under_way[self._pool.submit(_timed, job.call, job.argument)] = track, job
            self._observe(_progress(stage, tracks, self._pool.size))
            wait(under_way, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in self._store_done(under_way):
                track, _ = under_way.pop(future)
                waiting.append(track)
            self._check_stop()
            self._pool.check()
        return [track.returned[0] for track in tracks]

    def _next_unknown(self, track: _Track[Any]) -> Job[Any] | None:
        """Return the track's next job whose result is not stored yet, None at its end."""
        while (job := track.advance()) is not None and job.key in self._store:
            track.note(self._recall(job), self._store.seconds(job.key))
        return job

    def _store_done(self, under_way: Mapping[Future[Any], tuple[_Track[Any], Job[Any]]]) -> list[Future[Any]]:
        """Store the result of every job that has ended, and return their futures.

        What one of them raises comes only when the results of all others are stored, and not if a signal has asked
        to stop: the same one may have ended the job's process.
        """
        done = [future for future in under_way if future.done()]
        failed = [future for future in done if future.exception() is not None]
        for future in done:
            if future not in failed:
                self._store_result(*under_way[future], future)
        if failed:
            self._check_stop()
            raise _explain(under_way[failed[0]][1], failed[0].exception())
        return done

    def _store_result(self, track: _Track[Any], job: Job[Any], future: Future[Any]) -> None:
        result, seconds = future.result()
        self._store.add(job.key, _adapter(job).dump_python(result, mode="json"), seconds)
        track.note(result, seconds)

    def _recall(self, job: Job[T]) -> T:
        return _adapter(job).validate_python(self._store.result(job.key))

    def _check_stop(self) -> None:
        if self._stop:
            raise self._stop.error(self._say_stopped())

    def _say_stopped(self) -> str:
        return f"stopped with {len(self._store)} results kept in '{self._store.folder}'; the same command goes on"


@dataclass
class _Track(Generic[T]):
    """A chain under way: what its last job gave, how long its jobs took, and what it returned at its end."""

    chain: Chain[T]
    num_jobs: int
    answer: Any = None
    seconds: list[float] = field(default_factory=list)
    returned: list[T] = field(default_factory=list)

    def advance(self) -> Job[Any] | None:
        """Return the chain's next job, None at its end."""
        try:
            return self.chain.send(self.answer)
        except StopIteration as end:
            self.returned.append(end.value)
            return None

    def note(self, answer: Any, seconds: float) -> None:
        """Take a job's result, which the chain receives next."""
        self.answer = answer
        self.seconds.append(seconds)

    @property
    def num_left(self) -> int:
        """How many jobs it may still have."""
        return 0 if self.returned else self.num_jobs - len(self.seconds)


def _progress(stage: str, tracks: Sequence[_Track[Any]], num_processes: int) -> LabProgress:
    """Return progress; a chain's next jobs are taken to last as long as its own so far, or as all others' do."""
    done = sum(len(track.seconds) for track in tracks)
    total = done + sum(track.num_left for track in tracks)
    if done < min(len(tracks), 2 * num_processes):
        return LabProgress(stage, done, total, None)
    typical = sum(sum(track.seconds) for track in tracks) / done
    left = sum(
        track.num_left * (sum(track.seconds) / len(track.seconds) if track.seconds else typical) for track in tracks
    )
    return LabProgress(stage, done, total, left / num_processes)


def _explain(job: Job[Any], error: BaseException | None) -> BaseException:
    """Return what to raise for an error that a job ended with."""
    if error is not None and not isinstance(error, BrokenExecutor):
        return error
    return DistbpError(
        f"a process of the study died in '{job.key}', perhaps for lack of memory; the same command goes on from there"
    )


def _adapter(job: Job[T]) -> TypeAdapter[T]:
    return TypeAdapter(job.kind)


def _timed(call: Callable[[Any], T], argument: Any) -> tuple[T, float]:
    """Return the result of call(argument) and the seconds it took."""
    began = time.perf_counter()
    return call(argument), time.perf_counter() - began
