"""Virtual time: processes that sleep and wait without time passing, one at a time. Cores and lines that are shared.

A process is a thread, so that what it runs need not know that its time is not real.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Hashable
from itertools import count
from typing import Any

threading.stack_size(1 << 18)  # thousands of them


class _Process:
    def __init__(self) -> None:
        self.turn = threading.Semaphore(0)


class Clock:
    """The time, and who goes on when. Ends when nobody has anything left to do."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, _Process]] = []
        self._numbers = count()
        self._current = _Process()
        self._main = self._current
        self._letters: dict[Hashable, deque[tuple[float, Any]]] = {}
        self._waiting: dict[Hashable, _Process] = {}
        self.errors: list[BaseException] = []

    def start(self, call: Callable[[], None]) -> None:
        """Start a process now."""
        process = _Process()

        def live() -> None:
            process.turn.acquire()
            try:
                call()
            except BaseException as error:
                self.errors.append(error)
            self._go_on(ended=True)

        threading.Thread(target=live, daemon=True).start()
        self._wake(self.now, process)

    def run(self) -> None:
        """Go on until nobody can. Raises what a process raised."""
        self._go_on()
        if self.errors:
            raise self.errors[0]

    def sleep_until(self, when: float) -> None:
        """Let the others go on until then."""
        if when > self.now:
            self._wake(when, self._current)
            self._go_on()

    def send(self, box: Hashable, letter: Any, arrival: float) -> None:
        """Put a letter into a box, where it can be taken from `arrival` on."""
        self._letters.setdefault(box, deque()).append((arrival, letter))
        if box in self._waiting:
            self._wake(max(arrival, self.now), self._waiting.pop(box))

    def take(self, box: Hashable) -> Any:
        """Wait for the next letter in a box."""
        letters = self._letters.setdefault(box, deque())
        if not letters:
            self._waiting[box] = self._current
            self._go_on()
        arrival, letter = letters.popleft()
        self.sleep_until(arrival)
        return letter

    def _wake(self, when: float, process: _Process) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), process))

    def _go_on(self, ended: bool = False) -> None:
        mine = self._current
        if self._events and not self.errors:
            self.now, _, self._current = heapq.heappop(self._events)
        else:
            self._current = self._main
        if self._current is not mine:
            self._current.turn.release()
            if not ended:
                mine.turn.acquire()


class Queue:
    """`num` equal cores, or one line: what is asked for first is done first."""

    def __init__(self, num: int = 1) -> None:
        self._free = [0.0] * num

    def reserve(self, start: float, seconds: float) -> float:
        """Return when `seconds` of work that could begin at `start` are done."""
        end = max(start, self._free[0]) + seconds
        heapq.heapreplace(self._free, end)
        return end
