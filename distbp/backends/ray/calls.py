"""Calls to the actors of one group: waiting for answers, and finding out who is lost when they do not come."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayTaskError

from distbp.backends.base import Abandon, never
from distbp.backends.ray.pool import GONE, ActorPool, Joined
from distbp.backends.ray.private_cluster import check_alive
from distbp.errors import DataError, DistbpError
from distbp.group.lines import PeerLostError
from distbp.group.roster import Roster
from distbp.protocol.recovery import GroupLostError, RoundAbandonedError
from distbp.text.sentences import first_line

PATIENCE_S = 5.0
"""Seconds of waiting after which every member is asked whether it still lives."""

POLL_S = 0.5
"""How often to ask, while a round is computed, whether to give it up."""


class Calls:
    """Asks the `members` of one group, by rank, and takes those out of the pool that turn out to be lost.

    Ray's exceptions become ours here and nowhere else.
    """

    def __init__(self, pool: ActorPool, members: Sequence[Joined], roster: Roster | None = None):
        """roster: for the members' roles in messages; None before they have any."""
        self._pool = pool
        self._members = members
        self._roster = roster

    def ask(
        self,
        members: Sequence[Joined],
        references: list[Any],
        timeout_s: float,
        is_busy: bool = False,
        abandon: Abandon = never,
    ) -> Any:
        """Return what `references`, a call to each of `members`, stand for. is_busy: they cannot answer meanwhile.

        After a while of waiting the members are asked whether they live: one that hangs is found long before a step
        may be called late. abandon: is asked while waiting whether to give the calls up.

        Raises GroupLostError, whatever DistbpError a member raised, and RoundAbandonedError.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            check_alive()
            try:
                patience_s = min(PATIENCE_S, max(0.0, deadline - time.monotonic()))
                return _get(references, patience_s, abandon)
            except RoundAbandonedError:
                self.dissolve()
                raise
            except GetTimeoutError:
                if not is_busy:
                    self._find_silent()
                if time.monotonic() >= deadline:
                    raise self._name_late(members, references, timeout_s) from None
            except GONE as error:
                raise self.dissolve(otherwise=first_line(error)) from error
            except RayTaskError as error:
                raise self._translate(error) from error

    def dissolve(self, *reasons: str, otherwise: str = "") -> GroupLostError:
        """Let the members leave the group and drop those that are dead or hang; returns who and why.

        reasons: what is known already. otherwise: what to say where nobody turns out to be lost, such as of a line
        that broke.
        """
        check_alive()
        there = [member for member in self._members if member in self._pool.joined]
        lost = [*reasons, *self._pool.call_roll("cut", there, self._name)]
        return GroupLostError(" and ".join(lost) or otherwise, len(self._pool.joined))

    def _find_silent(self) -> None:
        """Raise GroupLostError if a member does not answer."""
        silent = self._pool.call_roll("ping", self._members, self._name)
        if silent:
            raise self.dissolve(*silent)

    def _name_late(self, members: Sequence[Joined], references: list[Any], timeout_s: float) -> GroupLostError:
        """Drop the members that have taken too long."""
        ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
        late = [member for member, reference in zip(members, references, strict=True) if reference not in ready]
        for member in late:
            self._pool.dismiss(member)
        return self.dissolve(f"no answer within {timeout_s:g} s from {' and '.join(map(self._name, late))}")

    def _translate(self, error: RayTaskError) -> Exception:
        cause = error.cause
        if isinstance(cause, (PeerLostError, *GONE)):
            return self.dissolve(otherwise=first_line(cause))
        if isinstance(cause, DataError):
            self.dissolve()  # the others wait for it, and could not say how far they are
        if isinstance(cause, DistbpError):
            return cause
        return DistbpError(f"an actor failed{_place(error)}: {type(cause).__name__}: {cause}")

    def _name(self, member: Joined) -> str:
        rank = self._members.index(member)
        if self._roster is not None:
            return self._roster.name(rank)
        return f"worker {rank} (node {member.who.host}, pid {member.who.pid})"


def _get(references: list[Any], timeout_s: float, abandon: Abandon) -> Any:
    """Return what the references stand for, asking meanwhile whether to give up. Raises GetTimeoutError."""
    if abandon is never:
        return ray.get(references, timeout=timeout_s)
    deadline = time.monotonic() + timeout_s
    while True:
        left_s = max(0.0, deadline - time.monotonic())
        try:
            return ray.get(references, timeout=min(POLL_S, left_s))
        except GetTimeoutError:
            if abandon():
                raise RoundAbandonedError from None
            if left_s <= POLL_S:
                raise


def _place(error: RayTaskError) -> str:
    """Return where in the code an actor failed, from its traceback; '' if that is not to be seen."""
    places = re.findall(r'File "([^"]+)", line (\d+)', str(error))
    return f" at {places[-1][0]}:{places[-1][1]}" if places else ""
