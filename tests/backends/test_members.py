"""Members exchange the same bytes on one node and across nodes, without Ray: each runs in a thread here."""

import gc
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from waiting import wait_until

from distbp.backends.local import LocalBackend
from distbp.config import Recipe
from distbp.group import member as member_module
from distbp.group.lines import PeerLostError
from distbp.group.links import Switchboard
from distbp.group.member import Member
from distbp.group.roster import Membership, Roster, spread
from distbp.nn.blas import one_blas_thread
from distbp.nn.build import ModelSpec
from distbp.nn.digests import BLOCK, digest
from distbp.nn.streams import Purpose, stream
from distbp.protocol.examples import Examples, Scaling
from distbp.protocol.messages import TrainState, WorkerTask
from distbp.protocol.planning import server_slices, step_order
from distbp.training.plan import server_task

pytestmark = pytest.mark.slow

NUM_STEPS = 4


@pytest.fixture(autouse=True, scope="module")
def _pinned_blas():
    with one_blas_thread():
        yield


@pytest.fixture(scope="module")
def problem():
    """A network of three blocks of parameters on 90 examples, in uneven batches, with clipping and decay."""
    recipe = Recipe(
        model={"hidden": (600, 300)},
        optimizer={"clip_norm": 0.5, "weight_decay": 0.01},
        global_batch_size=40,
        microbatch_size=7,
    )
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (90, 40)).astype(np.uint8), rng.integers(0, 10, 90)
    examples = Examples(x, y, np.arange(90), Scaling(np.zeros(40), np.full(40, 1 / 255)))
    spec = ModelSpec(recipe.model, 40, 10, True, "float32")
    model = spec.build()
    parameters = np.zeros(model.layout.num_parameters, np.float32)
    model.init(model.layout.views(parameters), stream(0, Purpose.INIT))
    assert len(parameters) > 2 * BLOCK
    worker = WorkerTask(spec, examples, None, 0, recipe.microbatch_size, 1)
    server = server_task(recipe, model.layout)
    orders = [step_order(recipe, step, 90) for step in range(NUM_STEPS)]
    return worker, server, TrainState(0, parameters, (np.zeros_like(parameters),)), orders


def make_roster(nodes, num_servers, num_parameters, timeout_s=20.0):
    secret = b"only for this test"
    boards = [Switchboard("127.0.0.1", secret) for _ in nodes]
    members = [
        Membership(node, node, i, "", addresses=board.addresses)
        for i, (node, board) in enumerate(zip(nodes, boards, strict=True))
    ]
    return Roster(tuple(members), server_slices(num_parameters, num_servers), secret, timeout_s), boards


def start(pool, problem, nodes, num_servers):
    worker, server, state, _ = problem
    roster, boards = make_roster(nodes, num_servers, len(state.parameters))
    members = [Member(rank, roster, worker, server, state) for rank in range(len(nodes))]
    list(pool.map(lambda member, board: member.connect(board, state), members, boards))
    return members


@pytest.fixture(scope="module")
def expected(problem):
    worker, server, state, orders = problem
    backend = LocalBackend(1)
    backend.start(worker, server, state)
    checksums = [report.checksum for report in backend.run(iter(orders))]
    found = digest(backend.snapshot().state.parameters)
    backend.close()
    return checksums, found


@pytest.mark.parametrize(
    ("nodes", "num_servers"),
    [
        ("a", 1),
        ("aa", 1),
        ("aa", 2),
        ("aaa", 3),
        ("ab", 1),
        ("ab", 2),
        ("aabb", 1),
        ("abab", 3),
        ("abcd", 3),
        ("aaaaaaaa", 2),
    ],
)
def test_result_does_not_depend_on_nodes_and_servers(problem, expected, nodes, num_servers):
    with ThreadPoolExecutor(len(nodes)) as pool:
        members = start(pool, problem, nodes, num_servers)
        reports = [found for found, _ in pool.map(lambda member: member.run(problem[3]), members)]
        snapshots = [member.snapshot() for member in members[:num_servers]]
        for member in members:
            member.close()
    checksums = [
        f"{sum(int(r.checksum, 16) for r in step) % 2**64:016x}" for step in zip(*reports[:num_servers], strict=True)
    ]
    assert (checksums, digest(np.concatenate([s.state.parameters for s in snapshots]))) == expected


def test_the_shards_of_a_group_are_planned_once_for_all_steps_of_an_order(problem, monkeypatch):
    planned = []
    plan = member_module.paced_shards
    monkeypatch.setattr(member_module, "paced_shards", lambda *arguments: planned.append(arguments) or plan(*arguments))
    with ThreadPoolExecutor(1) as pool:
        (member,) = start(pool, problem, "a", 1)
        member.run(problem[3])
        member.close()
    sizes = [order.num_microbatches for order in problem[3]]
    assert [count for count, _ in planned] == list(dict.fromkeys(sizes))
    assert len(planned) < len(sizes)


@pytest.mark.parametrize(("nodes", "num_servers"), [("aaa", 1), ("aab", 2), ("abab", 3)])
def test_divergence_in_the_middle_of_a_chunk_is_reported_and_ends_every_member(problem, nodes, num_servers):
    worker, server, state, orders = problem
    server = replace(server, optimizer=server.optimizer.model_copy(update={"clip_norm": None}))
    orders = [orders[0], replace(orders[1], learning_rate=1e30), *orders[2:]]
    with ThreadPoolExecutor(len(nodes)) as pool:
        members = start(pool, (worker, server, state, orders), nodes, num_servers)
        first = [found for found, _ in pool.map(lambda member: member.run(orders), members)]
        second = [found for found, _ in pool.map(lambda member: member.run(orders), members)]
        for member in members:
            member.close()
    assert [[report.committed for report in reports] for reports in first[:num_servers]] == [
        [True, True, False]
    ] * num_servers
    assert not any(second)


def test_a_closed_member_is_noticed_by_every_other(problem):
    with ThreadPoolExecutor(3) as pool:
        members = start(pool, problem, "aab", 2)
        members[1].close()
        for future in [pool.submit(members[rank].run, problem[3]) for rank in (0, 2)]:
            with pytest.raises(PeerLostError, match=r"is gone|was silent"):
                future.result(timeout=30)
        for member in members:
            member.close()


def test_a_caller_without_the_secret_is_turned_away():
    from multiprocessing import AuthenticationError

    from distbp.group.links import call

    board = Switchboard("127.0.0.1", b"right")
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(board.accept, "tcp", 5.0)
        with pytest.raises(AuthenticationError):
            call(board.addresses["tcp"], b"wrong", 5.0)
        link = call(board.addresses["tcp"], b"right", 5.0)
        link.send("hello")
        answered = accepted.result(timeout=5)
        assert answered.receive() == "hello"
        answered.close()
        link.close()
    board.close()


def test_servers_are_spread_over_nodes():
    assert spread(["a", "a", "b", "b", "b", "c"]) == [0, 2, 5, 1, 3, 4]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_a_group_that_has_been_left_gives_back_descriptors_and_threads(problem):
    """Groups come and go in the same processes as members are lost and replaced."""

    def form_and_leave() -> None:
        with ThreadPoolExecutor(3) as pool:
            members = start(pool, problem, "aab", 2)
            list(pool.map(lambda member: member.run(problem[3]), members))
            for member in members:
                member.close()

    def count() -> tuple[int, int]:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    form_and_leave()
    before = count()
    for _ in range(3):
        form_and_leave()
    wait_until(lambda: count() == before)  # threads of a pool end a moment after it


def test_a_member_that_is_cut_while_it_waits_raises_at_once(problem):
    """The driver cuts from another thread, so that nobody waits for the time-out of a peer that is not there."""
    worker, server, state, orders = problem
    roster, boards = make_roster("aa", 1, len(state.parameters), timeout_s=60.0)
    members = [Member(rank, roster, worker, server, state) for rank in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(members[0].connect, boards[0], state)
        boards[0].cut()
        members[0].cut()
        with pytest.raises(PeerLostError):
            waiting.result(timeout=10)
        with pytest.raises(PeerLostError):
            pool.submit(members[1].connect, boards[1], state).result(timeout=10)
    with pytest.raises(PeerLostError):
        members[0].run(orders)
    for member in members:
        member.close()


def test_a_member_that_nobody_calls_names_who_is_late(problem):
    worker, server, state, _ = problem
    roster, boards = make_roster("aa", 1, len(state.parameters), timeout_s=0.2)
    member = Member(0, roster, worker, server, state)
    with pytest.raises(PeerLostError, match=r"worker 1 \(node a, pid 1\) was silent for 0\.2 s"):
        member.connect(boards[0], state)
    member.close()
    boards[1].close()


def test_a_caller_that_says_nothing_does_not_hold_up_the_others():
    board = Switchboard("127.0.0.1", b"secret")
    with socket.create_connection(board.addresses["tcp"]), ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(board.accept, "tcp", 1.0)
        with pytest.raises(TimeoutError):
            accepted.result(timeout=10)
    board.close()


@pytest.mark.parametrize("paces", [(1.0, 1.0, 1.0), (1.0, 10.0, 1.0), (5.0, 1.0, 1000.0)])
def test_result_does_not_depend_on_paces(problem, expected, paces):
    with ThreadPoolExecutor(3) as pool:
        members = start(pool, problem, "aab", 1)
        found = list(pool.map(lambda member: member.run(problem[3], paces), members))
        for member in members:
            member.close()
    assert [report.checksum for report in found[0][0]] == expected[0]
    shares = [effort.num_microbatches for _, effort in found]
    assert sum(shares) == sum(-(-(order.stop - order.start) // 7) for order in problem[3])
    assert shares[paces.index(max(paces))] == min(shares)
