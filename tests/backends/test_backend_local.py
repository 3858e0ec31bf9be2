"""The local backend: threads in this process, which end with it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import threadpoolctl

from distbp.backends import make_backend
from distbp.backends.base import summarize
from distbp.backends.local import LocalBackend
from distbp.config import Placement, Recipe
from distbp.nn.build import ModelSpec
from distbp.nn.model import Sums
from distbp.protocol.examples import Examples
from distbp.protocol.messages import Evaluation, TrainState, WorkerTask
from distbp.protocol.planning import step_order
from distbp.training.plan import server_task


@pytest.fixture
def group():
    """The tasks of softmax regression on 20 examples, and its state: all zeros."""
    recipe = Recipe(model={"hidden": ()}, global_batch_size=8, microbatch_size=3)
    spec = ModelSpec(recipe.model, 4, 3, True, "float64")
    rng = np.random.default_rng(0)
    examples = Examples(rng.standard_normal((20, 4)), rng.integers(0, 3, 20), np.arange(20))
    layout = spec.build().layout
    worker = WorkerTask(spec, examples, examples, 0, recipe.microbatch_size, 1)
    server = server_task(recipe, layout)
    return worker, server, TrainState(0, np.zeros(layout.num_parameters), (np.zeros(layout.num_parameters),))


@pytest.fixture
def orders():
    recipe = Recipe(global_batch_size=8, microbatch_size=3)
    return [step_order(recipe, step, 20) for step in range(3)]


def num_blas_threads() -> list[int]:
    return [info["num_threads"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]


def test_placement_chooses_the_backend():
    assert isinstance(make_backend(Placement(backend="local", workers=3)), LocalBackend)


def test_no_order_is_drawn_before_the_report_of_the_one_before(group, orders):
    drawn = []

    def draw():
        for order in orders:
            drawn.append(order.step)
            yield order

    backend = LocalBackend(2, num_threads=2)
    backend.start(*group)
    for report in backend.run(draw()):
        assert drawn[-1] == report.step - 1
    backend.close()
    assert drawn == [0, 1, 2]


def test_closing_ends_the_threads_and_gives_blas_its_own_back(group, orders):
    threads, blas_threads = threading.active_count(), num_blas_threads()
    backend = LocalBackend(3, num_threads=3)
    backend.start(*group)
    list(backend.run(iter(orders)))
    assert threading.active_count() > threads
    assert set(num_blas_threads()) <= {1}
    backend.close()
    backend.close()
    assert (threading.active_count(), num_blas_threads()) == (threads, blas_threads)


def test_small_microbatches_are_computed_in_one_thread(group, orders):
    threads = threading.active_count()
    backend = LocalBackend(3)
    backend.start(*group)
    list(backend.run(iter(orders)))
    assert threading.active_count() == threads
    backend.close()


def test_a_new_start_begins_at_the_state_given(group, orders):
    backend = LocalBackend(2, num_threads=2)
    backend.start(*group)
    first = [report.checksum for report in backend.run(iter(orders))]
    backend.start(*group)
    assert [report.checksum for report in backend.run(iter(orders))] == first
    backend.close()


def test_an_error_in_one_worker_reaches_the_caller(group, orders, monkeypatch):
    def fail(_model, _parameters, x, *_):
        raise ZeroDivisionError(f"in {len(x)} examples")

    monkeypatch.setattr("distbp.nn.mlp.MLP.gradient_sums", fail)
    backend = LocalBackend(2, num_threads=2)
    backend.start(*group)
    with pytest.raises(ZeroDivisionError, match="in 3 examples"):
        list(backend.run(iter(orders)))
    backend.close()


def test_evaluation_at_zero_is_the_loss_of_guessing(group):
    backend = LocalBackend(2, num_threads=2)
    backend.start(*group)
    assert backend.evaluate().loss == pytest.approx(np.log(3))
    backend.close()


def test_summary_weighs_chunks_by_their_examples():
    assert summarize([Sums(6.0, 3, 3), Sums(2.0, 1, 0)], True) == Evaluation(2.0, 0.75, 4)


def test_summary_of_regression_has_no_accuracy():
    assert summarize([Sums(6.0, 3)], False).accuracy is None
