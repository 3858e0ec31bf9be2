"""Looks at several runs all the time, each from a thread of its own: slow storage delays nobody else, nor the keys."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from distbp.errors import DistbpError
from distbp.watch.feed import Feed
from distbp.watch.state import RunState


class Watch:
    """The states of some runs, kept up to date from `with` on to its end. states: in the order of the feeds."""

    def __init__(self, feeds: Sequence[Feed]):
        """Look once at each. Raises StorageError or ClusterError if that fails: what cannot be seen at all is told."""
        self._feeds = feeds
        self._states = [feed.look() for feed in feeds]
        self._is_over = threading.Event()
        self._news = threading.Condition()
        self._num_looks = 0
        self._defect: Exception | None = None  # ends all threads

    @property
    def states(self) -> tuple[RunState, ...]:
        """What the last look at each run found."""
        with self._news:
            return tuple(self._states)

    def check(self) -> None:
        """Raise what a look raised that no later look can mend."""
        if self._defect is not None:
            raise self._defect

    def __enter__(self) -> Watch:
        for number in range(len(self._feeds)):
            threading.Thread(target=self._observe, args=[number], name=f"watch-{number}", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let the threads end; one that waits for storage is left behind, it is a daemon."""
        self._is_over.set()

    def wait_for_look(self, timeout_s: float) -> None:
        """Return when some run has been looked at again, or after `timeout_s`."""
        with self._news:
            seen = self._num_looks
            self._news.wait_for(lambda: self._num_looks != seen, timeout_s)

    def _observe(self, number: int) -> None:
        while self._defect is None and not self._is_over.wait(self._feeds[number].interval_s):
            state, defect = self._states[number], None
            try:
                state = self._feeds[number].look()
            except DistbpError as error:  # passing trouble, as far as can be known: the next look tries again
                state = replace(state, note=f"{error} (what is shown is older)")
            except Exception as error:  # a thread has no caller: check() hands it on
                defect = error
            with self._news:
                self._states[number] = state
                self._defect = self._defect or defect
                self._num_looks += 1
                self._news.notify_all()
