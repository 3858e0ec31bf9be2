"""Members exchange the same bytes on one node and across nodes, without Ray: each runs in a thread here."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from distbp.backends.links import Switchboard
from distbp.backends.local import LocalBackend
from distbp.backends.member import Member, PeerLostError
from distbp.backends.roster import Membership, Roster, spread
from distbp.config import Recipe
from distbp.nn.build import ModelSpec
from distbp.nn.digests import BLOCK, digest
from distbp.nn.numerics import one_blas_thread
from distbp.nn.streams import Purpose, stream
from distbp.protocol.examples import Examples, Scaling
from distbp.protocol.messages import ServerTask, TrainState, WorkerTask
from distbp.protocol.planning import server_slices, step_order

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
    server = ServerTask(recipe.optimizer, model.layout.decayed_ranges(), recipe.microbatch_size)
    orders = [step_order(recipe, step, 90) for step in range(NUM_STEPS)]
    return worker, server, TrainState(0, parameters, np.zeros_like(parameters)), orders


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

    from distbp.backends.links import call

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
