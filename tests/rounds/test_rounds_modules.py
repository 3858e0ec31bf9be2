"""PyTorch modules in rounds: the same bytes everywhere; buffers become the mean of the replicas' own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from rounds_by_hand import PLAIN, orders

from distbp.config import Config
from distbp.data import prepare
from distbp.protocol.messages import Shard
from distbp.protocol.roles import make_server, make_worker
from distbp.training.plan import make_plan

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")


@pytest.fixture
def recipe(make_recipe, monkeypatch):
    """A module with batch normalisation and dropout, 2 replicas in rounds of 2."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return make_recipe(
        model={"torch": "normed_module:build"},
        optimizer={"learning_rate": 0.05, "clip_norm": 1.0},
        rounds={"steps": 2, "replicas": 2},
        microbatch_size=10,
        epochs=1,
    )


def test_a_module_in_rounds_gives_the_same_bytes_on_any_number_of_workers_and_threads(recipe, make_run):
    digests = {make_run(recipe, *placement).digest for placement in ((1, 1), (2, 1), (3, 1), (1, 2))}
    assert len(digests) == 1


def test_buffers_become_the_mean_of_what_the_replicas_have(recipe):
    """Whatever the outer step does to parameters. The replicas have 2 and 3 of 5 microbatches of each batch of 50."""
    plan = make_plan(Config(recipe=recipe), prepare(recipe.data, recipe.seed))
    server, worker, order = make_server(plan.server, plan.initial_state()), make_worker(plan.worker), next(orders(plan))
    found = []
    for k in (0, 1):
        (partial,) = worker.compute(server.parameters, order, Shard(k, k + 1, 2)).partials
        found.append((partial.gradient.copy(), partial.num_examples))
    server.commit(order, [worker.compute(server.parameters, order, Shard(0, 2, 2))])
    ranges = plan.layout.buffer_ranges()
    assert len(ranges) > 0
    for start, stop in ranges:
        (a, n), (b, m) = ((flat[start:stop], count) for flat, count in found)
        np.testing.assert_allclose(server.parameters[start:stop], (n * a + m * b) / (n + m), rtol=1e-6)
        assert (server.snapshot().state.moments[0][start:stop] == 0).all()


def test_one_replica_keeps_the_buffers_of_training_step_by_step(recipe, make_run):
    """With one replica, a batch of 50 in 5 microbatches is the batch that step-wise training has."""
    rounds = recipe.rounds.model_validate({"steps": 2, "replicas": 1, "outer": PLAIN})
    apart = recipe.model_copy(update={"rounds": rounds})
    plain = recipe.model_copy(update={"rounds": type(recipe.rounds)()})
    optimizer = recipe.optimizer.model_validate({"learning_rate": 0.05, "momentum": 0.0})
    runs = [make_run(one.model_copy(update={"optimizer": optimizer})) for one in (apart, plain)]
    assert runs[0].digest == runs[1].digest
