"""Members of a group as processes of this machine, without Ray: forked, so that hundreds of them fit.

They run the product's own code: distbp.group between them, and RayGroup's loop in the driver, to which a pipe stands
for a Ray actor. A member's node is a name, so members of different "nodes" speak TCP over the loopback.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self
from unittest import mock

import numpy as np

from distbp.backends.base import join_snapshots
from distbp.backends.ray import group as group_module
from distbp.backends.ray.group import RayGroup
from distbp.backends.ray.pool import Joined
from distbp.config import Recipe
from distbp.group.links import Switchboard
from distbp.group.member import Member
from distbp.group.roster import Membership, Roster, spread
from distbp.group.spare import align_reports, choose_step
from distbp.nn.blas import pin_blas
from distbp.nn.build import ModelSpec
from distbp.protocol.examples import Examples
from distbp.protocol.messages import Effort, ServerTask, Snapshot, StepOrder, TrainState, WorkerTask
from distbp.protocol.pacing import Pacing
from distbp.protocol.planning import choose_slices, step_order
from distbp.protocol.recovery import GroupLostError
from distbp.training.plan import server_task

TIMEOUT_S = 60.0
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Task:
    """What the members train: `size` parameters, one microbatch for each of `num_members`, a pause as gradient."""

    worker: WorkerTask
    server: ServerTask
    state: TrainState
    recipe: Recipe
    num_examples: int

    @classmethod
    def of(cls, num_members: int, size: int, pause_s: float = 0.0) -> Task:
        """Return the task."""
        model = {"function": "free_model:build", "options": {"size": size, "pause_s": pause_s}}
        recipe = Recipe(model=model, global_batch_size=num_members, microbatch_size=1)
        count = num_members * 64
        examples = Examples(np.zeros((count, 1), np.uint8), np.zeros(count, np.int64), np.arange(count))
        spec = ModelSpec(recipe.model, 1, 2, True, "float32")
        layout = spec.build().layout
        zeros = np.zeros(layout.num_parameters, np.float32)
        worker = WorkerTask(spec, examples, None, 0, 1, 1)
        return cls(worker, server_task(recipe, layout), TrainState(0, zeros, (zeros.copy(),)), recipe, count)

    def orders(self, start: int, stop: int) -> Iterator[StepOrder]:
        """Yield the orders of some steps."""
        return (step_order(self.recipe, step, self.num_examples) for step in range(start, stop))


class Traffic:
    """What this process sends over its sockets, by "near" and "far"; counted where sockets send."""

    def __init__(self) -> None:
        self.found = {"near messages": 0, "near bytes": 0, "far messages": 0, "far bytes": 0}
        plain = socket.socket.sendall

        def sendall(line: socket.socket, data: Any, *flags: int) -> None:
            kind = "near" if line.family == socket.AF_UNIX else "far"
            self.found[f"{kind} messages"] += 1
            self.found[f"{kind} bytes"] += len(data)
            plain(line, data, *flags)

        socket.socket.sendall = sendall  # type: ignore[method-assign]  # this process ends with the measurement


class _Host:
    """What a Ray actor's process is in the product; answers calls from a pipe."""

    def __init__(self, task: Task):
        pin_blas()  # as an actor does
        self._task = task
        self._member: Member | None = None
        self._board: Switchboard | None = None
        self._traffic = Traffic()

    def listen(self, secret: bytes) -> dict[str, Any]:
        if self._member is not None:
            self._member.close()
        self._board = Switchboard("127.0.0.1", secret)
        return self._board.addresses

    def connect(self, rank: int, packed: bytes) -> None:
        roster, state = pickle.loads(packed)
        self._member = Member(rank, roster, self._task.worker, self._task.server, state)
        self._member.connect(self._board, state)

    def run(self, orders: list[StepOrder], paces: Any) -> Any:
        return *self._member.run(orders, paces), None

    def count(self) -> dict[str, float]:
        descriptors = os.listdir("/proc/self/fd")  # noqa: PTH208 - the listing's own descriptor is among them
        sockets = sum(1 for name in descriptors if _is_socket(name))
        threads = len(list(Path("/proc/self/task").iterdir()))
        cpu = {"cpu s": time.process_time(), "sockets": sockets, "descriptors": len(descriptors), "threads": threads}
        return {**self._traffic.found, **cpu}

    def offers(self) -> Any:
        return self._member.offers()

    def spare(self, rank: int, step: int) -> Any:
        return self._member.spare(rank, step)


def _serve(pipe: Connection, inherited: list[Connection], task: Task) -> None:
    for other in inherited:
        other.close()
    host = _Host(task)
    with suppress(EOFError, OSError):
        while True:
            name, arguments = pickle.loads(pipe.recv_bytes())
            try:
                answer: Any = getattr(host, name)(*arguments)
            except Exception as error:
                answer = error
            pipe.send(answer)
    os._exit(0)


class Actor:
    """A member's process; calls look like those to a Ray actor."""

    def __init__(self, task: Task, others: Sequence[Actor]):
        self.pipe, theirs = FORK.Pipe()
        inherited = [self.pipe, *(other.pipe for other in others)]
        self.process = FORK.Process(target=_serve, args=(theirs, inherited, task), daemon=True)
        self.process.start()
        theirs.close()
        self.sent_bytes = self.num_calls = 0
        self._num_unanswered = 0

    def __getattr__(self, name: str) -> _Method:
        return _Method(self, name)

    def send(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Send a call; to a process that is gone too, as on Ray: then the answer fails."""
        data = pickle.dumps((name, arguments))
        self.sent_bytes += len(data)
        self.num_calls += 1
        self._num_unanswered += 1
        with suppress(OSError):
            self.pipe.send_bytes(data)

    def receive(self) -> Any:
        """Wait for the answer to the oldest call that has none."""
        self._num_unanswered -= 1
        return self.pipe.recv()

    def settle(self) -> None:
        """Wait for the answers to all calls, whatever they are."""
        with suppress(EOFError, OSError):
            while self._num_unanswered:
                self.receive()

    def end(self) -> None:
        """Kill the process, at once."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


@dataclass(frozen=True)
class _Method:
    actor: Actor
    name: str

    def remote(self, *arguments: Any) -> Actor:
        self.actor.send(self.name, arguments)
        return self.actor


class PipeCalls:
    """Stands for the driver's Calls: answers come in the order of the calls."""

    def ask(self, _members: Any, references: list[Actor], timeout_s: float, **_: Any) -> list[Any]:
        """Return the answers; raises GroupLostError as soon as one of them tells of a lost member."""
        found: dict[int, Any] = {}
        pending = {reference.pipe: place for place, reference in enumerate(references)}
        while pending:
            for pipe in wait(list(pending), timeout_s) or _fail(f"no answer from {len(pending)} members"):
                try:
                    answer = references[pending[pipe]].receive()
                except (EOFError, OSError) as error:
                    raise GroupLostError("a member is gone") from error
                if isinstance(answer, Exception):
                    raise GroupLostError(f"{type(answer).__name__}: {answer}") from answer
                found[pending.pop(pipe)] = answer
        return [found[place] for place in range(len(references))]


class EvenPacing(Pacing):
    """Equal shares whatever was measured: many members on few cores would seem slow by turns, and get nothing."""

    def after(self, _efforts: Sequence[Effort]) -> Self:
        """Return the same."""
        return self


class _Pool:
    """Stands for the driver's pool of actors."""

    joined: tuple[Joined, ...] = ()

    def note(self, kind: str, text: str) -> None:
        """Nobody reads it."""


class Crew:
    """Processes, and the group that they form."""

    def __init__(self, task: Task, nodes: Sequence[str], num_servers: int):
        self.task = task
        self._num_servers = num_servers
        self.actors: list[Actor] = []
        self._nodes: dict[Actor, str] = {}
        for node in nodes:
            self.add(node)
        self.group: RayGroup | None = None
        self.members: list[Joined] = []

    def add(self, node: str) -> None:
        """Start one more process."""
        actor = Actor(self.task, self.actors)
        self.actors.append(actor)
        self._nodes[actor] = node

    def form(self, state: TrainState) -> float:
        """Form the group around a state, as the driver on Ray does; returns the seconds that it took."""
        began = time.perf_counter()
        actors = [self.actors[i] for i in spread([self._nodes[actor] for actor in self.actors])]
        secret, calls = os.urandom(32), PipeCalls()
        addresses = calls.ask(None, [actor.listen.remote(secret) for actor in actors], TIMEOUT_S)
        who = tuple(
            Membership(self._nodes[actor], self._nodes[actor], actor.process.pid, "", addresses=found)
            for actor, found in zip(actors, addresses, strict=True)
        )
        slices = choose_slices(self._num_servers, len(state.parameters), len(who))
        self.roster = Roster(who, slices, secret, TIMEOUT_S)
        packed = pickle.dumps((self.roster, state))
        calls.ask(None, [actor.connect.remote(rank, packed) for rank, actor in enumerate(actors)], TIMEOUT_S)
        self.members = [Joined(rank, actor, one) for rank, (actor, one) in enumerate(zip(actors, who, strict=True))]
        with mock.patch.object(group_module, "Pacing", EvenPacing):
            self.group = RayGroup(_Pool(), self.members, self.roster, calls, self.task.worker)
        return time.perf_counter() - began

    def run(self, start: int, stop: int) -> list[Any]:
        """Carry out steps with the driver's own loop; returns the reports."""
        return list(self.group.run(self.task.orders(start, stop), lambda: False))

    def count(self) -> list[dict[str, float]]:
        """Return what every member has sent and used so far, by rank."""
        return PipeCalls().ask(None, [member.actor.count.remote() for member in self.members], TIMEOUT_S)

    def lose(self, rank: int) -> Actor:
        """Kill a member; returns whose process it was."""
        actor = self.members[rank].actor
        actor.process.kill()
        actor.process.join()
        return actor

    def rescue(self) -> Snapshot | None:
        """Return the newest state that those who are left can give, as the driver on Ray finds it."""
        there = [member.actor for member in self.members if member.actor.process.is_alive()]
        for actor in there:
            actor.settle()
        offers = PipeCalls().ask(None, [actor.offers.remote() for actor in there], TIMEOUT_S)
        holders = {
            server: (actor, offer)
            for actor, found in reversed(list(zip(there, offers, strict=True)))
            for server, offer in found.items()
        }
        step = choose_step({server: offer for server, (_, offer) in holders.items()}, self.roster.num_servers)
        calls = [holders[server][0].spare.remote(server, step) for server in sorted(holders)]
        self._forget(there)
        return join_snapshots(align_reports(PipeCalls().ask(None, calls, TIMEOUT_S)))

    def _forget(self, there: list[Actor]) -> None:
        for actor in {member.actor for member in self.members} - set(there):
            self.actors.remove(actor)
            actor.end()

    @property
    def driver_bytes(self) -> int:
        """What the driver has sent in all."""
        return sum(actor.sent_bytes for actor in self.actors)

    @property
    def num_calls(self) -> int:
        """How many calls the driver has made in all."""
        return sum(actor.num_calls for actor in self.actors)

    def close(self) -> None:
        """End all processes."""
        for actor in self.actors:
            actor.end()


def _is_socket(descriptor: str) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(int(descriptor)).st_mode)
    except OSError:
        return False


def _fail(reason: str) -> Any:
    raise GroupLostError(reason)


def place(num_members: int, per_node: int) -> list[str]:
    """Return the nodes of members of which `per_node` share each."""
    return [f"n{i // per_node}" for i in range(num_members)]


def at_step(state: TrainState, step: int) -> TrainState:
    """Return the state as of another step."""
    return replace(state, step=step)
