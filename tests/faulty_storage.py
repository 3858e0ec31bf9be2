"""An object store in memory that fails, hangs and dawdles when a test says so: URLs faulty://<anything>."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

METHODS = ("isfile", "ls", "info", "cat_file", "pipe_file", "rm")
WRITER = "run-outbox"
"""What the threads are called that write to a run's storage."""
WRITES = ("pipe_file", "rm")

Fault = Callable[[str, str], None]


@dataclass
class Faults:
    """What befalls calls from now on. calls: (method, path) of every one, those that fail included."""

    meet: Fault | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)
    num_met: int = 0

    def refuse(self, error: Exception, methods: tuple[str, ...] = METHODS, path: str = "") -> None:
        """Raise `error` from calls of these methods on paths that contain `path`."""

        def meet(method: str, called_path: str) -> None:
            if method in methods and path in called_path:
                self.num_met += 1
                raise error

        self.meet = meet

    def refuse_next(self, error: Exception, count: int, methods: tuple[str, ...] = METHODS, path: str = "") -> None:
        """Like `refuse`, but only the next `count` times."""
        first = self.num_met

        def meet(method: str, called_path: str) -> None:
            if method in methods and path in called_path and self.num_met < first + count:
                self.num_met += 1
                raise error

        self.meet = meet

    def delay(self, seconds: float, methods: tuple[str, ...] = METHODS, path: str = "") -> None:
        """Let calls take longer."""

        def meet(method: str, called_path: str) -> None:
            if method in methods and path in called_path:
                self.num_met += 1
                time.sleep(seconds)

        self.meet = meet

    def end(self) -> None:
        """Let everything work again."""
        self.meet = None


class FaultyFileSystem(MemoryFileSystem):
    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    faults: ClassVar[Faults] = Faults()
    of_the_past: ClassVar[set[threading.Thread]] = set()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("faulty://", "memory://"))


def _make_method(name: str) -> Callable[..., Any]:
    def call(self: FaultyFileSystem, path: str, *args: Any, **options: Any) -> Any:
        _expect_present()
        faults = FaultyFileSystem.faults
        faults.calls.append((name, path))
        if faults.meet is not None:
            faults.meet(name, path)
            _expect_present()  # it may have hung for longer than its test took
        return getattr(MemoryFileSystem, name)(self, path, *args, **options)

    return call


def _expect_present() -> None:
    """Let nothing that an earlier test has left behind reach this test's storage: it tries again for ever."""
    if threading.current_thread() in FaultyFileSystem.of_the_past:
        raise ConnectionError("the storage of a test that is over")


for _name in METHODS:
    setattr(FaultyFileSystem, _name, _make_method(_name))


def make_faulty_storage() -> Faults:
    """Empty the store, end all faults, shut out the threads that wrote to it so far, and return the switch."""
    FaultyFileSystem.of_the_past = {thread for thread in threading.enumerate() if thread.name == WRITER}
    fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)
    FaultyFileSystem.store.clear()
    FaultyFileSystem.pseudo_dirs[:] = [""]
    FaultyFileSystem.faults = Faults()
    return FaultyFileSystem.faults
