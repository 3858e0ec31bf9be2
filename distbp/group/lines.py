"""The lines of one member to the others: sending, receiving, and what a broken or silent one means."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import AuthenticationError
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from distbp.group.arena import Arena
from distbp.group.links import Link
from distbp.group.roster import Roster

T = TypeVar("T")


class PeerLostError(Exception):
    """Another member is gone or silent, or this one has been told to leave the group."""


class Peer:
    """Another member: the line to it, and what this one keeps for it.

    arena: its gradient buffers, if this member reads them in shared memory, else None.
    """

    def __init__(self, link: Link, is_near: bool):
        self.link = link
        self.arena: Arena | None = None
        self.outbox = None if is_near else ThreadPoolExecutor(1, "distbp-outbox")
        self._scratch: list[NDArray] = []

    def scratch(self, count: int, size: int, dtype: np.dtype) -> list[NDArray]:
        """Return `count` arrays (size,) to receive into, the same ones each time."""
        while len(self._scratch) < count:
            self._scratch.append(np.empty(size, dtype))
        return self._scratch[:count]

    def close(self) -> None:
        """Give back the line and what belongs to it."""
        self.link.close()
        if self.arena is not None:
            self.arena.memory.close()
        if self.outbox is not None:
            self.outbox.shutdown(wait=False)


class Lines:
    """The peers of the member of one rank. Every call but `cut` and `close` may raise PeerLostError.

    As soon as one line is lost all are cut, so that the others see it too.
    """

    def __init__(self, rank: int, roster: Roster):
        self.rank = rank
        self.roster = roster
        self.peers: dict[int, Peer] = {}
        self._posted: list[Future[None]] = []
        self._inboxes = ThreadPoolExecutor(len(roster.members), "distbp-inbox")
        self._lost: PeerLostError | None = None

    def is_near(self, rank: int) -> bool:
        """Return whether another member shares this one's node, and so its memory."""
        return self.roster.are_near(self.rank, rank)

    def add(self, rank: int, link: Link) -> None:
        """Take the line to another member."""
        self.peers[rank] = Peer(link, self.is_near(rank))

    def check(self) -> None:
        """Raise PeerLostError if a line has been lost."""
        if self._lost is not None:
            raise self._lost

    def post(self, rank: int, message: Any, arrays: list[NDArray]) -> None:
        """Send in order; to another node in the background, so that both directions of the line are used."""
        peer = self.peers[rank]
        if peer.outbox is None:
            self.guard(rank, lambda: peer.link.send(message))
        else:
            self._posted.append(peer.outbox.submit(_send_all, peer.link, message, arrays))

    def finish_posts(self) -> None:
        """Wait until what was posted is sent: its arrays are about to change."""
        posted, self._posted = self._posted, []
        for future in posted:
            self.guard(None, future.result)

    def receive(self, rank: int) -> Any:
        """Wait for one message."""
        return self.guard(rank, self.peers[rank].link.receive)

    def receive_into(self, rank: int, array: NDArray) -> None:
        """Wait until `array` is filled."""
        self.guard(rank, lambda: self.peers[rank].link.receive_into(array))

    def from_each(self, ranks: Iterable[int], receive: Callable[[int], T]) -> list[T]:
        """Return receive(rank) for each; from other nodes all at once, because a line that is not read stands still."""
        ranks = list(ranks)
        near = [rank for rank in ranks if self.is_near(rank)]
        far = [rank for rank in ranks if not self.is_near(rank)]
        arriving = map(receive, far) if len(far) < 2 else self._inboxes.map(receive, far)
        return [*map(receive, near), *arriving]

    def guard(self, rank: int | None, action: Callable[[], T]) -> T:
        """Return action(); a broken or silent line becomes PeerLostError. rank: whose line it is, None: any.

        If the lines were cut before, the error is the one that they were cut for.
        """
        try:
            return action()
        except (OSError, EOFError, AuthenticationError) as error:
            self._lost = self._lost or self._explain(rank, error)
            self.cut()
            raise self._lost from None

    def cut(self) -> None:
        """Leave the group: every line ends, what waits on one raises PeerLostError. Any thread may call this."""
        self._lost = self._lost or PeerLostError("this member has left its group")
        for peer in list(self.peers.values()):
            peer.link.cut()

    def close(self) -> None:
        """Leave the group and give back lines and threads."""
        self.cut()
        for peer in self.peers.values():
            peer.close()
        self._inboxes.shutdown(wait=False)

    def _explain(self, rank: int | None, error: Exception) -> PeerLostError:
        who = self._name_missing() if rank is None else self.roster.name(rank)
        if isinstance(error, TimeoutError):
            return PeerLostError(f"{who} was silent for {self.roster.timeout_s:g} s")
        return PeerLostError(f"{who} is gone: {error}")

    def _name_missing(self) -> str:
        """Return who has not linked up yet, of those that this member talks to."""
        missing = [rank for rank in self.roster.links(self.rank) if rank not in self.peers]
        return " and ".join(self.roster.name(rank) for rank in missing) or "a member"


def _send_all(link: Link, message: Any, arrays: list[NDArray]) -> None:
    link.send(message)
    for array in arrays:
        link.send_array(array)
