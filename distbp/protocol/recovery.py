"""What to do after a failure: a pure function of what failed and what failed before; the driver acts on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal["rebuild", "shrink", "give_up"]

MAX_WITHOUT_STEP = 10
MAX_BACKOFF_S = 30.0


class GroupLostError(Exception):
    """A backend's group of actors cannot go on: `reason` names who is lost and why.

    num_left: members that still work. For the driver only, which recovers or turns it into WorkersLostError.
    """

    def __init__(self, reason: str, num_left: int = 0):
        super().__init__(reason, num_left)
        self.reason = reason
        self.num_left = num_left

    def __str__(self) -> str:
        return self.reason


class RoundAbandonedError(Exception):
    """A round was given up because the run is to stop; the group stands where the round began. For the driver only."""


@dataclass(frozen=True)
class LostGroup:
    """A group that failed, of which `num_left` members still work."""

    num_left: int


@dataclass(frozen=True)
class History:
    """Failures so far, this one included: of this session, and since the last step that was done."""

    num_failures: int
    num_without_step: int


@dataclass(frozen=True)
class Limits:
    """How many failures are allowed (None: any number), and how few workers may go on."""

    max_failures: int | None
    min_workers: int


@dataclass(frozen=True)
class Decision:
    """What the driver does next, how long it waits before, and for `give_up` why."""

    action: Action
    backoff_s: float = 0.0
    why: str = ""


def decide(lost: LostGroup, history: History, limits: Limits) -> Decision:
    """Return what to do after a failure.

    shrink: go on at once with the members that are left; others join when they have started. rebuild: wait for
    new members first, because too few are left. After several failures without a step in between the driver waits
    longer and longer, so that a group that cannot work does not try all the time. MAX_WITHOUT_STEP of them end the run,
    unless any number of failures is allowed.
    """
    if limits.max_failures is not None:
        if history.num_failures > limits.max_failures:
            return Decision("give_up", why=f"that is more than max_failures={limits.max_failures}")
        if history.num_without_step >= MAX_WITHOUT_STEP:
            return Decision("give_up", why=f"{history.num_without_step} failures in a row without a step in between")
    action: Action = "shrink" if lost.num_left >= limits.min_workers else "rebuild"
    return Decision(action, _backoff_s(history.num_without_step))


def _backoff_s(num_without_step: int) -> float:
    """Return 0 for the first failure after a step, then half a second, doubled by each further one."""
    return 0.0 if num_without_step < 2 else min(MAX_BACKOFF_S, 0.5 * 2 ** min(num_without_step - 2, 10))
