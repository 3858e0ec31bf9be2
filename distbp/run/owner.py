"""Who holds a run's lock, and whether that process can still be alive."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from dataclasses import MISSING, asdict, dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Self

from distbp.machine.processes import read_start_time
from distbp.text.json_text import decode_object, encode_document

STALE_AFTER_S = 60.0


class Sign(Enum):
    """What can be said about the holder of a lock."""

    ALIVE = "it lives"
    DEAD = "its process is gone"
    SILENT = "its last heartbeat is too old, or clocks differ"


@dataclass(frozen=True)
class LockOwner:
    """The process that holds a lock, as lock.json tells it.

    started: the kernel's start time of the process, in clock ticks, so that a reused pid is told apart; None if
    unknown. machine: boot and pid namespace, so that two containers with one host name are. heartbeat: Unix seconds.
    folder: the device and number of the run's folder where it was locked; None on object stores and in old locks.
    """

    host: str
    machine: str
    pid: int
    started: int | None
    token: str
    heartbeat: float
    folder: str | None = None

    @classmethod
    def of_this_process(cls, folder: str | None = None) -> Self:
        """Return this process as an owner, with a new token. folder: what identifies the folder on this machine."""
        pid = os.getpid()
        started = read_start_time(pid)
        return cls(socket.gethostname(), _identify_machine(), pid, started, secrets.token_hex(8), time.time(), folder)

    @classmethod
    def decode(cls, content: bytes | None) -> Self | None:
        """Return the owner in a lock file; None for no file, and for one whose writer died while writing it."""
        try:
            values = decode_object(content or b"")
            owner = cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values or f.default is MISSING})
            return owner if isinstance(owner.heartbeat, float) and isinstance(owner.pid, int) else None
        except (ValueError, KeyError):
            return None

    def encode(self) -> bytes:
        """Return the content of a lock file."""
        return encode_document(asdict(self))

    def refresh(self) -> Self:
        """Return the same owner with a heartbeat of now."""
        return replace(self, heartbeat=time.time())

    def examine(self, observer: LockOwner) -> Sign:
        """Return what `observer`, another process at another time, can say about this owner.

        On one machine the process itself is the witness, in one process its heartbeat's thread: a lock stays behind
        when storage is away. From elsewhere only the heartbeat is. A lock that was copied with its folder is no lock.
        """
        is_silent = abs(observer.heartbeat - self.heartbeat) > STALE_AFTER_S
        if self.is_near(observer):
            if None not in (self.folder, observer.folder) and self.folder != observer.folder:
                return Sign.DEAD
            is_held = self._is_held_here() if self.pid == observer.pid else _is_alive(self.pid, self.started)
            if not is_held:
                return Sign.DEAD
            return Sign.SILENT if is_silent and self.started is None else Sign.ALIVE
        return Sign.SILENT if is_silent else Sign.ALIVE

    def is_near(self, other: LockOwner) -> bool:
        """Return whether both are processes of one machine, which see each other."""
        return (self.host, self.machine) == (other.host, other.machine)

    @property
    def thread_name(self) -> str:
        """The name of the thread that keeps the lock alive."""
        return f"run-lock-{self.token}"

    def _is_held_here(self) -> bool:
        return any(thread.name == self.thread_name for thread in threading.enumerate())

    def describe(self, observer: LockOwner) -> str:
        """Return 'process 4711 on host n1 (last sign of life 3 s ago)'."""
        age_s = max(0.0, observer.heartbeat - self.heartbeat)
        return f"process {self.pid} on host '{self.host}' (last sign of life {age_s:.0f} s ago)"


def _is_alive(pid: int, started: int | None) -> bool:
    if started is not None:
        return read_start_time(pid) == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _identify_machine() -> str:
    """Return what names this boot and pid namespace on Linux, '' elsewhere."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
