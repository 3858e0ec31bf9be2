"""Where a run's time goes: every moment of a session is charged to exactly one account."""

from __future__ import annotations

import time
from typing import Literal

from distbp.run.position import Position

Account = Literal["work_s", "waiting_s", "recomputing_s", "checkpointing_s", "data_s"]


class Ledger:
    """Charges the seconds since the last charge; begins with what the sessions before have spent."""

    def __init__(self, before: Position):
        self._spent: dict[Account, float] = {
            "work_s": before.work_s,
            "waiting_s": before.waiting_s,
            "recomputing_s": before.recomputing_s,
            "checkpointing_s": before.checkpointing_s,
            "data_s": before.data_s,
        }
        self.last_charge = time.perf_counter()

    def charge(self, account: Account) -> None:
        """Charge what has passed since the last charge."""
        now = time.perf_counter()
        self._spent[account] += now - self.last_charge
        self.last_charge = now

    def move(self, seconds: float, source: Account, target: Account) -> None:
        """Charge seconds to `target` that have been, or will be, charged to `source`: reports may come in a bunch."""
        self._spent[source] -= seconds
        self._spent[target] += seconds

    def stamp(self, position: Position) -> Position:
        """Return the position with the accounts as they stand."""
        return position.changed(**self._spent)
