"""What to do after a failure: a pure function of what failed and what failed before; the driver acts on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal["rebuild", "give_up"]


class GroupLostError(Exception):
    """A backend's group of actors cannot go on: `reason` names who is lost and why.

    For the driver only, which recovers or turns it into WorkersLostError.
    """

    @property
    def reason(self) -> str:
        """Who is lost, and why."""
        return str(self)


@dataclass(frozen=True)
class Decision:
    """What the driver does next, and how long it waits before."""

    action: Action
    backoff_s: float


def decide(num_failures: int, steps_since_failure: int, max_failures: int) -> Decision:
    """Return what to do after failure number `num_failures` (the first is 1).

    max_failures: how many are allowed; -1 is no limit. Failures without a step in between wait longer and
    longer, up to 30 s, so that a group that cannot start does not spin.
    """
    if 0 <= max_failures < num_failures:
        return Decision("give_up", 0.0)
    backoff_s = 0.0 if steps_since_failure > 0 else min(30.0, 0.5 * num_failures)
    return Decision("rebuild", backoff_s)
