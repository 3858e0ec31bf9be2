"""What torch keeps once for a whole process: threads, deterministic algorithms, the generator of random numbers.

One microbatch is one computation of fixed shape on one thread; whatever it draws comes from its own key.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")


@dataclass(frozen=True)
class _Settings:
    """What has a say in torch's bits, for the whole process."""

    num_threads: int
    deterministic: bool
    warn_only: bool
    matmul_precision: str

    @classmethod
    def current(cls) -> _Settings:
        return cls(
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.get_float32_matmul_precision(),
        )

    def apply(self) -> None:
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warn_only)
        torch.set_float32_matmul_precision(self.matmul_precision)
        torch.set_num_threads(self.num_threads)


PINNED = _Settings(1, True, False, "highest")


class _Pin:
    """Keeps the settings from the first that needs them to the last, and then gives back those of before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_users = 0
        self._before = PINNED
        self._generator = torch.empty(0)

    def enter(self) -> None:
        with self._lock:
            if self._num_users == 0:
                self._before = _Settings.current()
                self._generator = torch.default_generator.get_state()
                PINNED.apply()
            self._num_users += 1
        if torch.get_num_threads() != 1:  # every thread has a number of its own
            torch.set_num_threads(1)

    def leave(self) -> None:
        with self._lock:
            self._num_users -= 1
            if self._num_users == 0:
                self._before.apply()
                torch.default_generator.set_state(self._generator)


_PIN = _Pin()


@contextmanager
def pinned() -> Iterator[None]:
    """Let torch compute on one thread with deterministic algorithms in full precision; at the end all is as before.

    May be entered by several threads and within itself: what comes first pins, what goes last gives back. A thread
    that leaves while others stay keeps computing on one thread: giving back then could change the others' bits.
    """
    _PIN.enter()
    try:
        yield
    finally:
        _PIN.leave()


@contextmanager
def computing() -> Iterator[None]:
    """Like `pinned`, and without what the calling thread may have around it: no_grad, inference mode, autocast."""
    with ExitStack() as stack:
        stack.enter_context(pinned())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast("cpu", enabled=False))
        yield


def find_changes() -> list[str]:
    """Return in words which of the pinned settings the code that just ran has changed."""
    now = vars(_Settings.current())
    return [f"{name} to {now[name]!r}" for name, value in vars(PINNED).items() if now[name] != value]


class _Drawing:
    """torch has one generator: what draws from it computes alone, what does not computes beside others."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.RLock())
        self._num_others = 0

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        with self._condition:
            self._num_others += 1
        try:
            yield
        finally:
            with self._condition:
                self._num_others -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: self._num_others == 0)
            yield


_DRAWING = _Drawing()


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Let torch draw what follows from `seed`, below 2^63, and nothing else draw meanwhile; then as before."""
    with _DRAWING.alone():
        before = torch.default_generator.get_state()
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            torch.default_generator.set_state(before)


def try_without_drawing(compute: Callable[[], T]) -> T | None:
    """Return what `compute` returns, or None if torch drew meanwhile: then it may have other numbers than its own."""
    with _DRAWING.beside_others():
        before = _generator_state()
        found = compute()
        return found if _generator_state() == before else None


def _generator_state() -> bytes:
    state: bytes = torch.default_generator.get_state().numpy().tobytes()
    return state


def foreign_states() -> tuple[object, ...]:
    """Return the states of the generators of Python and NumPy, from which a module must not draw."""
    return random.getstate(), repr(np.random.get_state(legacy=False))
