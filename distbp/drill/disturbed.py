"""A run in a process of its own, which may be killed: then it is started again, as a person would."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from distbp import errors
from distbp.backends import Backend, make_backend
from distbp.config import Config, Placement
from distbp.drill.backend import DrillBackend
from distbp.drill.faults import Fault
from distbp.errors import DistbpError, TerminatedRunError
from distbp.training import Progress, Result, train

MAX_STARTS_WITHOUT_FAULT = 3
"""Driver processes in a row that may end without a result and without a fault of the drill's."""
END_TIMEOUT_S = 60.0
"""How long a driver that has said its last word may take to end its workers."""

logger = logging.getLogger("distbp")


@dataclass(frozen=True)
class _Said:
    """What the driver process tells: "fired" or "back" of a fault, a "step", a "log" line, a "result" or an "error"."""

    kind: str
    number: int = 0
    seconds: float = 0.0
    text: str = ""
    result: Result | None = None


@dataclass
class Disturbed:
    """What has become of the faults, and of the run. fired: at what moment. back_s: until the next step was done."""

    fired: dict[int, float] = field(default_factory=dict)
    back_s: dict[int, float] = field(default_factory=dict)
    result: Result | None = None


def run_disturbed(config: Config, name: str, faults: Mapping[int, Fault]) -> Disturbed:
    """Train `name` while the faults happen, starting the driver again whenever it is killed or preempted.

    Raises the DistbpError that the run ended with.
    """
    found = Disturbed()
    num_starts = 0
    while found.result is None:
        num_fired = len(found.fired)
        left = {number: fault for number, fault in faults.items() if number not in found.fired}
        try:
            _run_once(config, name, left, found)
        except TerminatedRunError:  # what a driver says that has heard its notice
            if not any(number in found.fired and left[number].is_notice_to_driver for number in left):
                raise
        num_starts = 0 if len(found.fired) > num_fired else num_starts + 1
        if num_starts == MAX_STARTS_WITHOUT_FAULT:
            raise DistbpError(f"the driver of '{name}' ended {num_starts} times although no fault struck it")
    return found


def _run_once(config: Config, name: str, faults: dict[int, Fault], found: Disturbed) -> None:
    """Start a driver and listen to it until it ends, in whatever way."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    driver = context.Process(target=_drive, args=(sender, config, name, faults), name="distbp-drill")
    driver.start()
    sender.close()
    try:
        _listen(receiver, found)
        driver.join(timeout=END_TIMEOUT_S)
    finally:
        receiver.close()
        driver.kill()  # harmless if it has ended
        driver.join()
        driver.close()


def _listen(receiver: Connection, found: Disturbed) -> None:
    while True:
        try:
            said: _Said = receiver.recv()
        except (EOFError, ConnectionError):
            return
        if said.kind == "error":
            name, _, message = said.text.partition("\n")
            raise getattr(errors, name, DistbpError)(message)
        _note(said, found)


def _note(said: _Said, found: Disturbed) -> None:
    if said.kind == "fired":
        found.fired[said.number] = time.monotonic()
    elif said.kind == "back":
        found.back_s[said.number] = said.seconds
    elif said.kind == "step":  # the first of this driver: whoever was killed with the one before is back
        now = time.monotonic()
        for number in found.fired.keys() - found.back_s.keys():
            found.back_s[number] = now - found.fired[number]
    elif said.kind == "log":
        logger.log(said.number, "%s", said.text)
    elif said.kind == "result":
        found.result = said.result


class _Forward(logging.Handler):
    """Sends log lines to the process that conducts the drill."""

    def __init__(self, sender: Connection):
        super().__init__(logging.INFO)
        self._sender = sender

    def emit(self, record: logging.LogRecord) -> None:
        self._sender.send(_Said("log", record.levelno, text=record.getMessage()))


def _drive(sender: Connection, config: Config, name: str, faults: dict[int, Fault]) -> None:
    """The driver process: trains and tells."""
    logger.addHandler(_Forward(sender))
    logger.setLevel(logging.INFO)
    has_stepped = False

    def tell(kind: str, number: int, seconds: float) -> None:
        sender.send(_Said(kind, number, seconds))

    def connect(placement: Placement) -> Backend:
        return DrillBackend(make_backend(placement), faults, tell)

    def observe(_: Progress) -> None:
        nonlocal has_stepped
        if not has_stepped:
            has_stepped = True
            sender.send(_Said("step"))

    try:
        result = train(config.recipe, config.placement, name=name, observe=observe, connect=connect)
        sender.send(_Said("result", result=result))
    except DistbpError as error:
        sender.send(_Said("error", text=f"{type(error).__name__}\n{error}"))
