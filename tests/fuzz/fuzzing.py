"""Tries many spoilt files, one after the other, each bounded in time and watched for code that runs from them."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from targets import Target, make_targets

CASE_TIMEOUT_S = 20.0
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "pickle.find_class",
    "ctypes.dlopen",
)


class HangError(BaseException):
    """A case took longer than CASE_TIMEOUT_S; no `except Exception` may catch it."""


class CodeRunError(BaseException):
    """Something was executed or unpickled."""


@dataclass(frozen=True)
class Finding:
    """A case that went wrong: run it again with --only NUMBER and the same seed."""

    target: str
    number: int
    text: str


@dataclass
class Outcome:
    """num_cases: by target."""

    num_cases: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


class Watch:
    """Raises CodeRunError for what no file may cause, while it is on; an audit hook cannot be taken away again."""

    def __init__(self) -> None:
        self.is_on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.is_on and event in FORBIDDEN:
            raise CodeRunError(f"{event}{arguments!r:.200}")


def fuzz(num_cases: int, seed: int, watch: Watch, only: int | None = None) -> Outcome:
    """Return what came of `num_cases` cases; the same for the same seed. only: the number of one case to try."""
    outcome = Outcome()
    with _quiet(), tempfile.TemporaryDirectory(prefix="distbp-fuzz-") as name:
        folder = Path(name)
        targets = make_targets(folder)
        for number in range(num_cases) if only is None else [only]:
            rng = random.Random(f"{seed}/{number}")
            target = rng.choices(targets, [target.share for target in targets])[0]
            outcome.num_cases[target.name] += 1
            text = _try_case(target, rng, folder / "work", watch)
            if text is not None:
                outcome.findings.append(Finding(target.name, number, text))
    return outcome


def _try_case(target: Target, rng: random.Random, work: Path, watch: Watch) -> str | None:
    """Return what went wrong, None if nothing did."""
    work.mkdir()
    here = Path.cwd()
    os.chdir(work)
    try:
        with _deadline():
            watch.is_on = True
            target.try_case(rng, work)
        return "it ran a command" if (work / "canary").exists() else None
    except (Exception, HangError, CodeRunError):
        return traceback.format_exc()
    finally:
        watch.is_on = False
        os.chdir(here)
        shutil.rmtree(work)


@contextmanager
def _deadline() -> Iterator[None]:
    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise HangError(f"it took more than {CASE_TIMEOUT_S:.0f} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, CASE_TIMEOUT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings of damaged files to ourselves, as the command line does."""
    logger = logging.getLogger("distbp")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.disabled = True
        try:
            yield
        finally:
            logger.disabled = False
