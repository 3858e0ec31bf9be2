"""Runs the trials of a study in parallel, stores each at once, and continues where an earlier session was stopped.

A study is written as chains: generators that yield measurements one after the other and receive their results, so that
a later trial may depend on the earlier ones of its own chain. Chains run beside each other.
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
from distbp.lab.executor import Executor
from distbp.lab.store import Store
from distbp.machine.interrupt import StopRequest

POLL_S = 0.2

T = TypeVar("T")


@dataclass(frozen=True)
class Measurement(Generic[T]):
    """call(argument), of a function in a module. Its result, a dataclass `kind`, is stored under `key`."""

    key: str
    call: Callable[[Any], T]
    argument: Any
    kind: type[T]


Chain = Generator[Measurement[Any], Any, T]


def single(measurement: Measurement[T]) -> Chain[T]:
    """Return the chain of one measurement, which returns its result."""
    result: T = yield measurement
    return result


@dataclass(frozen=True)
class LabProgress:
    """What an observer sees: the stage, what is done of at most `total`, and the seconds left if they can be told."""

    stage: str
    done: int
    total: int
    seconds_left: float | None


LabObserver = Callable[[LabProgress], None]


class Lab:
    """Where the measurements of a study are carried out and remembered."""

    def __init__(self, store: Store, executor: Executor, stop: StopRequest, observe: LabObserver):
        self._store = store
        self._executor = executor
        self._stop = stop
        self._observe = observe

    @property
    def folder(self) -> Path:
        """Where the study writes."""
        return self._store.folder

    @property
    def num_processes(self) -> int:
        """How many measurements run at a time."""
        return self._executor.size

    def knows(self, measurement: Measurement[Any]) -> bool:
        """Return whether the measurement's result is stored already."""
        return measurement.key in self._store

    def seconds_spent(self, prefix: str) -> float:
        """Return the seconds of all stored measurements together whose keys begin with `prefix`."""
        return self._store.seconds_spent(prefix)

    def measure(self, stage: str, measurements: Sequence[Measurement[T]]) -> list[T]:
        """Return the results of measurements carried out here one after the other, while nothing else of ours runs."""
        for number, measurement in enumerate(measurements):
            self._check_stop()
            self._observe(LabProgress(stage, number, len(measurements), None))
            if measurement.key not in self._store:
                with self._stop.at_once(self._say_stopped()):
                    result, seconds = _timed(measurement.call, measurement.argument)
                self._store.add(measurement.key, _adapter(measurement).dump_python(result, mode="json"), seconds)
        return [self._recall(measurement) for measurement in measurements]

    def run(self, stage: str, chains: Sequence[Chain[T]], num_measurements: Sequence[int]) -> list[T]:
        """Run all chains to their ends and return what they return, in order.

        num_measurements: how many measurements each chain has at most.

        Raises InterruptedRunError after a signal; what is finished is stored.
        """
        tracks = [_Track(chain, count) for chain, count in zip(chains, num_measurements, strict=True)]
        waiting = deque(tracks)
        under_way: dict[Future[Any], tuple[_Track[T], Measurement[Any]]] = {}
        self._check_stop()
        while waiting or under_way:
            while waiting and len(under_way) < self._executor.size:
                track = waiting.popleft()
                measurement = self._next_unknown(track)
                if measurement is not None:
                    under_way[self._executor.submit(_timed, measurement.call, measurement.argument)] = (
                        track,
                        measurement,
                    )
            self._observe(_progress(stage, tracks, self._executor.size))
            wait(under_way, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in self._store_done(under_way):
                track, _ = under_way.pop(future)
                waiting.append(track)
            self._check_stop()
            self._executor.check()
        return [track.returned[0] for track in tracks]

    def _next_unknown(self, track: _Track[Any]) -> Measurement[Any] | None:
        """Return the track's next measurement whose result is not stored yet, None at its end."""
        while (measurement := track.advance()) is not None and measurement.key in self._store:
            track.note(self._recall(measurement), self._store.seconds(measurement.key))
        return measurement

    def _store_done(self, under_way: Mapping[Future[Any], tuple[_Track[Any], Measurement[Any]]]) -> list[Future[Any]]:
        """Store the result of every measurement that has ended, and return their futures.

        What one of them raises comes only when the results of all others are stored, and not if a signal has asked
        to stop: the same one may have ended the measurement's process.
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

    def _store_result(self, track: _Track[Any], measurement: Measurement[Any], future: Future[Any]) -> None:
        result, seconds = future.result()
        self._store.add(measurement.key, _adapter(measurement).dump_python(result, mode="json"), seconds)
        track.note(result, seconds)

    def _recall(self, measurement: Measurement[T]) -> T:
        return _adapter(measurement).validate_python(self._store.result(measurement.key))

    def _check_stop(self) -> None:
        if self._stop:
            raise self._stop.error(self._say_stopped())

    def _say_stopped(self) -> str:
        return f"stopped with {len(self._store)} results kept in '{self._store.folder}'; the same command goes on"


@dataclass
class _Track(Generic[T]):
    """A chain under way: what its last measurement gave, how long each took, and what it returned at its end."""

    chain: Chain[T]
    num_measurements: int
    answer: Any = None
    seconds: list[float] = field(default_factory=list)
    returned: list[T] = field(default_factory=list)

    def advance(self) -> Measurement[Any] | None:
        """Return the chain's next measurement, None at its end."""
        try:
            return self.chain.send(self.answer)
        except StopIteration as end:
            self.returned.append(end.value)
            return None

    def note(self, answer: Any, seconds: float) -> None:
        """Take a measurement's result, which the chain receives next."""
        self.answer = answer
        self.seconds.append(seconds)

    @property
    def num_left(self) -> int:
        """How many measurements it may still have."""
        return 0 if self.returned else self.num_measurements - len(self.seconds)


def _progress(stage: str, tracks: Sequence[_Track[Any]], num_processes: int) -> LabProgress:
    """Return progress; a chain's next ones are taken to last as long as its own so far, or as all others' do."""
    done = sum(len(track.seconds) for track in tracks)
    total = done + sum(track.num_left for track in tracks)
    if done < min(len(tracks), 2 * num_processes):
        return LabProgress(stage, done, total, None)
    typical = sum(sum(track.seconds) for track in tracks) / done
    left = sum(
        track.num_left * (sum(track.seconds) / len(track.seconds) if track.seconds else typical) for track in tracks
    )
    return LabProgress(stage, done, total, left / num_processes)


def _explain(measurement: Measurement[Any], error: BaseException | None) -> BaseException:
    """Return what to raise for an error that a measurement ended with."""
    if error is not None and not isinstance(error, BrokenExecutor):
        return error
    return DistbpError(
        f"a process of the study died in '{measurement.key}', perhaps for lack of memory; "
        "the same command goes on from there"
    )


def _adapter(measurement: Measurement[T]) -> TypeAdapter[T]:
    return TypeAdapter(measurement.kind)


def _timed(call: Callable[[Any], T], argument: Any) -> tuple[T, float]:
    """Return the result of call(argument) and the seconds it took."""
    began = time.perf_counter()
    return call(argument), time.perf_counter() - began
