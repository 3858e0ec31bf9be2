"""The promise: the same recipe gives the same bytes, however the work is shared out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from distbp.protocol.messages import Shard
from distbp.protocol.supply import open_training
from distbp.protocol.worker import Worker

EVERYTHING = {
    "model": {"hidden": [7, 5], "dropout": 0.2},
    "optimizer": {"nesterov": True, "weight_decay": 0.01, "clip_norm": 0.3, "learning_rate": 0.05},
    "schedule": {"kind": "cosine", "warmup_steps": 2},
}
VARIANTS = [
    pytest.param({}, id="plain"),
    pytest.param({"model": {"hidden": []}}, id="softmax regression"),
    pytest.param({"model": {"hidden": [7, 5], "dropout": 0.5}}, id="dropout"),
    pytest.param({"optimizer": {"weight_decay": 0.1}}, id="weight decay"),
    pytest.param({"optimizer": {"clip_norm": 0.1}}, id="clipping"),
    pytest.param({"optimizer": {"nesterov": True}}, id="nesterov"),
    pytest.param({"model": {"hidden": [7], "activation": "sigmoid", "loss": "squared_error"}}, id="squared error"),
    pytest.param({"global_batch_size": 97, "microbatch_size": 1}, id="microbatches of one"),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_result_does_not_depend_on_worker_count(dtype, make_problem):
    problem = make_problem(dtype=dtype, **EVERYTHING)
    digests = {num_workers: problem.train(num_workers)[0] for num_workers in (1, 2, 3, 4, 5, 6, 7, 8, 20)}
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize("fields", VARIANTS)
def test_result_of_each_feature_does_not_depend_on_worker_count(fields, make_problem):
    problem = make_problem(**fields)
    digests = {num_workers: problem.train(num_workers)[0] for num_workers in (1, 3, 8)}
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize(("num_workers", "num_threads"), [(1, 2), (1, 5), (2, 3), (3, 2), (1, 20)])
def test_result_does_not_depend_on_thread_count(num_workers, num_threads, make_problem):
    problem = make_problem(**EVERYTHING)
    assert problem.train(num_workers, num_threads)[0] == problem.train(1, 1)[0]


def test_reports_do_not_depend_on_worker_count(make_problem):
    problem = make_problem(**EVERYTHING)

    def seen(num_workers: int) -> list[tuple]:
        return [(r.step, r.epoch, r.loss, r.num_examples, r.checksum) for r in problem.train(num_workers)[1]]

    assert seen(1) == seen(3) == seen(8)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"seed": 1}, id="seed"),
        pytest.param({"microbatch_size": 8}, id="microbatch size"),
        pytest.param({"global_batch_size": 99}, id="batch size"),
    ],
)
def test_digest_sees_a_change_of_the_recipe(fields, make_problem):
    assert make_problem(**fields).train(2)[0] != make_problem().train(2)[0]


def test_a_batch_is_a_set(make_problem):
    """Full-batch training takes the same step whatever the order of the examples."""
    problem = make_problem(num_examples=100)
    parameters = problem.initial_state().parameters
    results = [
        problem.compute(parameters, replace(problem.order(0), epoch=epoch)) for epoch in range(3)
    ]  # three orders
    gradients = [[partial.gradient.tobytes() for partial in result[0].partials] for result in results]
    assert gradients[0] == gradients[1] == gradients[2]


def test_mini_batches_depend_on_the_order(make_problem):
    problem = make_problem(num_examples=100, global_batch_size=50)
    parameters = problem.initial_state().parameters
    results = [problem.compute(parameters, replace(problem.order(0), epoch=epoch)) for epoch in range(2)]
    assert results[0][0].partials[0].gradient.tobytes() != results[1][0].partials[0].gradient.tobytes()


@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_used_worker_computes_what_a_fresh_one_does(num_threads, make_problem):
    """A shard of several whole subtrees needs several buffers at once, and the next call writes into them again."""
    problem = make_problem(**EVERYTHING)
    parameters = problem.initial_state().parameters
    used = Worker(problem.worker_task(num_threads))
    for shard in (Shard(0, 15, 15), Shard(3, 14, 15), Shard(1, 2, 15)):
        used.compute(-parameters, problem.order(0), shard)
    shard = Shard(3, 14, 15)
    found = used.compute(parameters, problem.order(1), shard).partials
    expected = Worker(problem.worker_task()).compute(parameters, problem.order(1), shard).partials
    assert [(p.start, p.stop) for p in found] == [(3, 4), (4, 8), (8, 12), (12, 14)]
    assert [p.gradient.tobytes() for p in found] == [p.gradient.tobytes() for p in expected]


def test_partials_of_one_shard_lie_in_separate_memory(make_problem):
    problem = make_problem()
    partials = (
        Worker(problem.worker_task())
        .compute(problem.initial_state().parameters, problem.order(0), Shard(3, 14, 15))
        .partials
    )
    pairs = [(a, b) for i, a in enumerate(partials) for b in partials[:i]]
    assert not any(np.shares_memory(a.gradient, b.gradient) for a, b in pairs)


def test_worker_leaves_parameters_and_examples_alone(make_problem):
    problem = make_problem(**EVERYTHING)
    parameters = problem.initial_state().parameters
    for array in (parameters, problem.examples.x, problem.examples.y, problem.examples.rows):
        array.flags.writeable = False
    (result,) = problem.compute(parameters, problem.order(0))
    assert result.partials[0].num_examples == 100


def test_every_example_is_seen_once_an_epoch(make_problem):
    problem = make_problem(epochs=1)
    task = problem.worker_task()
    training = open_training(task.train, task.seed, task.microbatch_size, np.float64)
    seen = []
    for order in problem.orders():
        training.begin(order.step, order.epoch, slice(order.start, order.stop), range(order.num_microbatches))
        seen += [training.take(order.step, number)[0] for number in range(order.num_microbatches)]
    assert len(np.concatenate(seen)) == len(np.unique(np.concatenate(seen), axis=0)) == 230


def test_evaluation_does_not_depend_on_worker_count(make_problem):
    problem = make_problem(num_examples=1000)  # 4 chunks, the last short
    parameters = problem.initial_state().parameters
    whole = Worker(problem.worker_task()).evaluate(parameters, Shard(0, 4, 4))
    parts = [Worker(problem.worker_task(3)).evaluate(parameters, Shard(*ends, 4)) for ends in ((0, 1), (1, 4))]
    assert [sums for part in parts for sums in part] == whole
    assert sum(sums.num_examples for sums in whole) == 1000
