"""The parameter server: each step once, in order, whole, and finite."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from distbp.config import Optimizer
from distbp.nn.digests import BLOCK, checksum
from distbp.protocol.messages import Partial, ServerTask, ShardResult, StepOrder, TrainState
from distbp.protocol.planning import server_slices
from distbp.protocol.server import ParameterServer


def server_of(parameters: np.ndarray, **optimizer: object) -> ParameterServer:
    settings = Optimizer.model_validate({"momentum": 0.0, **optimizer})
    task = ServerTask(settings, ((0, len(parameters) - 1, settings.weight_decay),))
    return ParameterServer(task, TrainState(0, parameters, (np.zeros_like(parameters),)))


def result_of(gradient: np.ndarray, num_examples: int, loss: float = 1.0) -> ShardResult:
    return ShardResult((Partial(0, 1, gradient, loss, num_examples),), 0.0)


def test_gradient_is_divided_by_the_number_of_examples_once():
    server = server_of(np.array([1.0, 2.0]))
    report = server.commit(StepOrder(0, 0, 0, 4, 0.5, 1), [result_of(np.array([8.0, -4.0]), 4, loss=6.0)])
    assert server.parameters.tolist() == [1 - 0.5 * 2, 2 + 0.5 * 1]
    assert (report.loss, report.num_examples, report.step) == (1.5, 4, 1)


def test_decay_comes_before_clipping_and_not_on_biases():
    server = server_of(np.array([4.0, 100.0]), weight_decay=0.5, clip_norm=2.5)
    server.commit(StepOrder(0, 0, 0, 2, 1.0, 1), [result_of(np.array([2.0, 8.0]), 2)])
    # mean (1, 4), decayed (3, 4), of norm 5, clipped to (1.5, 2)
    assert server.parameters.tolist() == [2.5, 98.0]


def test_a_gradient_of_many_blocks_is_clipped_by_its_whole_norm():
    length = 2 * BLOCK + 3
    server = server_of(np.zeros(length), clip_norm=1.0)
    server.commit(StepOrder(0, 0, 0, 1, 1.0, 1), [result_of(np.ones(length), 1)])
    assert np.allclose(server.parameters, -1 / np.sqrt(length), rtol=1e-12)


@pytest.mark.parametrize("num_servers", [2, 3])
def test_servers_of_slices_do_what_one_server_does(num_servers):
    """With decay, clipping by the norm of the whole gradient, and momentum, over two steps."""
    length = 2 * BLOCK + 3
    rng = np.random.default_rng(0)
    parameters, *gradients = rng.standard_normal((3, length)).astype(np.float32)
    settings = Optimizer(weight_decay=0.1, clip_norm=1.0)
    rate = settings.weight_decay
    task = ServerTask(settings, ((7, BLOCK + 5, rate), (2 * BLOCK - 1, length - 1, rate)))
    slices = server_slices(length, num_servers)
    whole = ParameterServer(task, TrainState(0, parameters, (np.zeros_like(parameters),)))
    parts = [
        ParameterServer(task, TrainState(0, parameters[start:stop], (np.zeros_like(parameters[start:stop]),)), start)
        for start, stop in slices
    ]
    for step, gradient in enumerate(gradients):
        order = StepOrder(step, 0, 0, 4, 0.1, 1)
        squares: list[float] = []
        report = whole.commit(order, [result_of(gradient, 4)], lambda own, seen=squares: seen.extend(own) or own)
        checksum_of_slices = 0
        for server, (start, stop) in zip(parts, slices, strict=True):
            found = server.commit(order, [result_of(gradient[start:stop], 4)], lambda _, seen=squares: seen)
            checksum_of_slices += int(found.checksum, 16)
        assert f"{checksum_of_slices % 2**64:016x}" == report.checksum
    assert np.concatenate([server.parameters for server in parts]).tobytes() == whole.parameters.tobytes()


def test_checksum_in_the_report_is_that_of_the_new_parameters():
    server = server_of(np.random.default_rng(0).standard_normal(2 * BLOCK + 3).astype(np.float32))
    gradient = np.random.default_rng(1).standard_normal(2 * BLOCK + 3).astype(np.float32)
    report = server.commit(StepOrder(0, 0, 0, 1, 1.0, 1), [result_of(gradient, 1)])
    assert report.checksum == f"{checksum(server.parameters):016x}"


def test_a_step_is_not_committed_twice(make_problem):
    problem = make_problem()
    server = problem.server()
    results = problem.compute(server.parameters, problem.order(0), num_workers=3)
    server.commit(problem.order(0), results)
    before = server.parameters.tobytes()
    with pytest.raises(ValueError, match="step 0 was committed while step 1 is next"):
        server.commit(problem.order(0), results)
    assert server.parameters.tobytes() == before
    assert server.snapshot().state.step == 1


def test_a_step_out_of_order_is_refused(make_problem):
    problem = make_problem()
    server = problem.server()
    results = problem.compute(server.parameters, problem.order(1))
    with pytest.raises(ValueError, match="step 1 was committed while step 0 is next"):
        server.commit(problem.order(1), results)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_batch_without_one_shard_is_refused(lost, make_problem):
    problem = make_problem()
    server = problem.server()
    before = server.parameters.tobytes()
    results = problem.compute(server.parameters, problem.order(0), num_workers=3)
    del results[lost]
    with pytest.raises(ValueError, match=r"microbatch \d+ is missing"):
        server.commit(problem.order(0), results)
    assert server.parameters.tobytes() == before


def test_a_batch_with_one_shard_twice_is_refused(make_problem):
    problem = make_problem()
    server = problem.server()
    results = problem.compute(server.parameters, problem.order(0), num_workers=3)
    with pytest.raises(ValueError, match="overlap"):
        server.commit(problem.order(0), [*results, results[1]])


def test_order_in_which_results_arrive_does_not_matter(make_problem):
    problem = make_problem()
    results = problem.compute(problem.initial_state().parameters, problem.order(0), num_workers=3)
    sums = [problem.server().commit(problem.order(0), arrived).checksum for arrived in (results, results[::-1])]
    assert sums[0] == sums[1]


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_not_committed(loss, make_problem):
    problem = make_problem()
    server = problem.server()
    before = server.snapshot().state
    (result,) = problem.compute(server.parameters, problem.order(0))
    broken = ShardResult(tuple(replace(partial, loss=loss) for partial in result.partials), 0.0)
    assert not server.commit(problem.order(0), [broken]).committed
    after = server.snapshot().state
    assert (after.step, after.parameters.tobytes(), after.moments[0].tobytes()) == (
        before.step,
        before.parameters.tobytes(),
        before.moments[0].tobytes(),
    )


def test_commit_leaves_the_partials_as_they_are(make_problem):
    problem = make_problem(optimizer={"clip_norm": 0.1, "weight_decay": 0.1})
    server = problem.server()
    results = problem.compute(server.parameters, problem.order(0), num_workers=3)
    gradients = [partial.gradient for result in results for partial in result.partials]
    before = [gradient.tobytes() for gradient in gradients]
    for gradient in gradients:
        gradient.flags.writeable = False  # as arrays from Ray are
    server.commit(problem.order(0), results)
    assert [gradient.tobytes() for gradient in gradients] == before


def test_a_server_built_from_a_snapshot_goes_on_as_the_old_one(make_problem):
    problem = make_problem(optimizer={"nesterov": True})
    old = problem.server()
    old.commit(problem.order(0), problem.compute(old.parameters, problem.order(0)))
    new = ParameterServer(problem.server_task, old.snapshot().state)
    for server in (old, new):
        server.commit(problem.order(1), problem.compute(server.parameters, problem.order(1)))
    assert new.parameters.tobytes() == old.parameters.tobytes()


def test_a_snapshot_is_a_copy(make_problem):
    problem = make_problem()
    server = problem.server()
    snapshot = server.snapshot()
    before = snapshot.state.parameters.tobytes()
    server.commit(problem.order(0), problem.compute(server.parameters, problem.order(0)))
    assert snapshot.state.parameters.tobytes() == before


def test_snapshot_tells_the_newest_reports(make_problem):
    problem = make_problem()
    server = problem.server()
    reports = [server.commit(order, problem.compute(server.parameters, order)) for order in problem.orders()]
    assert server.snapshot().reports == tuple(reports)
