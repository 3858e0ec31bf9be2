"""The actors of one run: those that have joined, those that are starting, and those that may not work.

Ray keeps an actor waiting until the cluster has room for it. So the pool always asks for as many actors as the run
may have, and one that starts late can still join.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, NodeDiedError, ObjectLostError, RayActorError, RaySystemError, RayTaskError

from distbp.backends.base import Note
from distbp.backends.ray.actors import CONTROL
from distbp.backends.ray.notices import Departure
from distbp.errors import NumericsError
from distbp.group.roster import Membership
from distbp.machine import processes
from distbp.protocol.recovery import GroupLostError
from distbp.text.sentences import first_line

GONE = (RayActorError, NodeDiedError, ObjectLostError, RaySystemError)
"""What Ray raises for a call to an actor that is not there any more."""
ANSWER_S = 5.0
"""Seconds in which a living actor says so, whatever it is computing."""
SETTLE_S = 1.0
"""Seconds to wait at the start for actors beyond those that the run needs."""
MAX_FAILED_STARTS = 3
"""Actors in a row that failed to start, after which no more are asked for until the group is formed again."""

Actor = Any  # ray's own types do not follow classes that are wrapped late


@dataclass(frozen=True, eq=False)
class Joined:
    """An actor that has said who it is. slot: its number in the pool."""

    slot: int
    actor: Actor
    who: Membership


@dataclass(frozen=True, eq=False)
class _Starting:
    slot: int
    actor: Actor
    introduction: Any


class ActorPool:
    """Up to `size` actors; `make` makes the one for a slot."""

    def __init__(self, make: Callable[[int], Actor], size: int, probe: str, min_left: int = 1):
        """probe: of the arithmetic of this process, which every actor's has to be.

        min_left: how many the run can go on with; fewer wait for others, where those that will be gone still can.
        """
        self._make = make
        self._probe = probe
        self._size = size
        self._min_left = min_left
        self._departures: dict[Joined, Departure] = {}
        self._starting: list[_Starting] = []
        self._refused: list[Joined] = []
        self._num_failed_starts = 0
        self._notes: list[Note] = []
        self._node = ray.get_runtime_context().get_node_id()
        self.joined: list[Joined] = []

    def has_enough(self, minimum: int) -> bool:
        """Return whether `minimum` have joined; a refused actor counts: the run goes on without it."""
        return self._num_missing(minimum) == 0

    def gather(self, minimum: int, timeout_s: float) -> bool:
        """Ask for all actors and return whether there are enough, after at most `timeout_s`.

        Raises NumericsError if all are refused, GroupLostError if actors that are needed die while they start.
        """
        self._fill()
        is_first = not self.joined
        self._wait_for(self._num_missing(minimum), timeout_s)
        reason = self.admit()
        if is_first and self.has_enough(minimum):
            self._wait_for(len(self._starting), SETTLE_S)
            self.admit()
        self._raise_if_all_are_refused()
        if reason is not None and not self.has_enough(minimum):
            raise GroupLostError(reason, len(self.joined))
        return self.has_enough(minimum)

    def admit(self) -> str | None:
        """Let actors join that have started since; returns why the last failed one failed, None if none did.

        One whose arithmetic differs is refused, and kept, so that Ray does not put another one in its place.
        """
        if not self._starting:
            return None
        ready, _ = ray.wait([s.introduction for s in self._starting], num_returns=len(self._starting), timeout=0)
        arrived = [starting for starting in self._starting if starting.introduction in ready]
        self._starting = [starting for starting in self._starting if starting not in arrived]
        reasons = [self._admit(starting) for starting in arrived]
        return next((reason for reason in reversed(reasons) if reason is not None), None)

    def call_roll(self, order: str, members: Sequence[Joined], name: Callable[[Joined], str]) -> list[str]:
        """Send "ping" or "cut" to members and drop those that are dead or do not answer; returns why, one each.

        The answer comes from a thread of its own, so a member that computes answers too.
        """
        calls = [getattr(m.actor, order).options(concurrency_group=CONTROL).remote() for m in members]
        answered, _ = ray.wait(calls, num_returns=len(calls), timeout=ANSWER_S)
        reasons = []
        for member, call in zip(members, calls, strict=True):
            if call not in answered:
                reasons.append(f"{name(member)} has not answered for {ANSWER_S:g} s")
            elif _has_failed(call):
                reasons.append(f"lost {name(member)}")
            else:
                continue
            self.dismiss(member)
        return reasons

    def heed(self, draining: Mapping[str, Departure]) -> None:
        """Take note of the nodes that will be gone."""
        for member in list(self.joined):
            departure = draining.get(member.who.node.partition("/")[0])
            if departure is not None:
                self.expect_end(member, departure)

    def expect_end(self, member: Joined, departure: Departure) -> None:
        """Take note that a member will be gone; where too few would stay, ask for another at once."""
        if member not in self.joined or member in self._departures:
            return
        self._departures[member] = departure
        self.note("leaving", f"{_describe(member)}: {departure}")
        if len(self._staying) < self._min_left:
            self._top_up()

    @property
    def should_part(self) -> bool:
        """Whether the run should go on without those that will be gone: others suffice, or there is no time left."""
        if len(self._staying) >= self._min_left:
            return bool(self._departures)
        return any(departure.is_near for departure in self._departures.values())

    def part(self) -> bool:
        """Let those go that will be gone, if it is time; returns whether somebody went."""
        if not self.should_part:
            return False
        suffices = len(self._staying) >= self._min_left
        for member, departure in list(self._departures.items()):
            if suffices or departure.is_near:
                self.dismiss(member)
                self.note("left", f"{_describe(member)}: {departure}")
        return True

    def sits_in(self, num_slots: int) -> bool:
        """Return whether an actor has, or will have, one of the first `num_slots` slots."""
        slots = [member.slot for member in self.joined + self._refused] + [s.slot for s in self._starting]
        return any(slot < num_slots for slot in slots)

    def dismiss(self, member: Joined) -> None:
        """Kill a member, which may hang, or be dead already."""
        if member in self.joined:
            self.joined.remove(member)
        self._departures.pop(member, None)
        ray.kill(member.actor)
        if member.who.node.partition("/")[0] == self._node:
            processes.kill(member.who.pid, member.who.started)  # Ray takes 5 s over a stopped process

    def note(self, kind: str, text: str) -> None:
        """Keep in mind that something happened."""
        self._notes.append(Note(kind, text))

    def take_notes(self) -> list[Note]:
        """Return what has happened since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def close(self) -> None:
        """Kill all actors."""
        for member in [*self.joined, *self._refused]:
            self.dismiss(member)
        for starting in self._starting:
            ray.kill(starting.actor)
        self._starting, self._refused = [], []

    def _fill(self) -> None:
        self._num_failed_starts = 0
        self._top_up()

    @property
    def _staying(self) -> list[Joined]:
        return [member for member in self.joined if member not in self._departures]

    def _top_up(self) -> None:
        """Ask for as many actors as the run may have; one that will be gone keeps its slot as long as it is there."""
        taken = {member.slot for member in self.joined + self._refused} | {s.slot for s in self._starting}
        num_missing = self._size - len(self._staying) - len(self._refused) - len(self._starting)
        free = sorted(set(range(2 * self._size)) - taken)
        for slot in free[: max(0, num_missing)]:
            actor = self._make(slot)
            self._starting.append(_Starting(slot, actor, actor.introduce.remote()))

    def _num_missing(self, minimum: int) -> int:
        return max(0, max(1, minimum - len(self._refused)) - len(self.joined))

    def _wait_for(self, count: int, timeout_s: float) -> None:
        introductions = [starting.introduction for starting in self._starting]
        if count and introductions:
            ray.wait(introductions, num_returns=min(count, len(introductions)), timeout=timeout_s)

    def _admit(self, starting: _Starting) -> str | None:
        try:
            who: Membership = ray.get(starting.introduction, timeout=ANSWER_S)  # what is ready may be lost since
        except (*GONE, RayTaskError, GetTimeoutError) as error:
            return self._note_failed_start(starting, error)
        self._num_failed_starts = 0
        if who.probe != self._probe:
            self._refused.append(Joined(starting.slot, starting.actor, who))
            self.note("refused", self._explain_refusal(who))
        else:
            self.joined.append(Joined(starting.slot, starting.actor, who))
            self.note("joined", _describe(self.joined[-1]))
        return None

    def _note_failed_start(self, starting: _Starting, error: Exception) -> str:
        reason = f"a worker died while it started: {first_line(error)}"
        self.note("lost", reason)
        with suppress(*GONE):
            ray.kill(starting.actor)
        self._num_failed_starts += 1
        if self._num_failed_starts < MAX_FAILED_STARTS:
            self._top_up()
        return reason

    def _raise_if_all_are_refused(self) -> None:
        if self._refused and len(self._refused) == self._size:
            raise NumericsError(self._explain_refusal(self._refused[0].who))

    def _explain_refusal(self, who: Membership) -> str:
        return (
            f"node '{who.host}' computes other floating-point results (probe {who.probe[:12]}) than "
            f"this one (probe {self._probe[:12]}); use the same NumPy on every node, and on unlike CPUs "
            "placement.portable=true"
        )


def _describe(member: Joined) -> str:
    return f"worker on node {member.who.host}, pid {member.who.pid}"


def _has_failed(answered: Any) -> bool:
    try:
        ray.get(answered, timeout=ANSWER_S)
    except (*GONE, RayTaskError, GetTimeoutError):
        return True
    return False
