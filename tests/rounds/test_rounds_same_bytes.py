"""The same recipe in rounds gives the same bytes, however many workers, threads and servers carry it out."""

from __future__ import annotations

import numpy as np
import pytest
from rounds_by_hand import orders

from distbp.config import Config
from distbp.data import prepare
from distbp.nn.digests import BLOCK
from distbp.protocol.messages import ShardResult, TrainState, slice_result, slice_state
from distbp.protocol.planning import shards
from distbp.protocol.roles import make_server, make_worker
from distbp.training.plan import make_plan

pytestmark = pytest.mark.slow

EVERYTHING = {
    "model": {"hidden": [7, 5], "dropout": 0.2},
    "optimizer": {"learning_rate": 0.05, "nesterov": True, "weight_decay": 0.01, "clip_norm": 0.5},
    "schedule": {"kind": "cosine", "warmup_steps": 3},
}


@pytest.mark.parametrize("replicas", [1, 3, 4, 8])
@pytest.mark.parametrize("optimizer", [EVERYTHING["optimizer"], {"kind": "adamw", "learning_rate": 0.01}])
def test_the_bytes_do_not_depend_on_workers_or_threads(replicas, optimizer, make_recipe, make_run):
    rounds = {"steps": 3, "replicas": replicas}
    recipe = make_recipe(**{**EVERYTHING, "optimizer": optimizer}, rounds=rounds)
    runs = [make_run(recipe, *placement) for placement in ((1, 1), (2, 1), (3, 1), (5, 1), (1, 3), (2, 2))]
    assert len({run.digest for run in runs}) == 1
    seen = {tuple((r.step, r.loss, r.num_examples, r.checksum, r.replicas) for r in run.reports) for run in runs}
    assert len(seen) == 1


def test_replicas_rounds_and_the_outer_step_are_part_of_the_numbers(make_recipe, make_run):
    outer = {"learning_rate": 0.7, "momentum": 0.9, "nesterov": True}
    variants = [
        {"steps": 2, "replicas": 3},
        {"steps": 3, "replicas": 3},
        {"steps": 2, "replicas": 4},
        {"steps": 2, "replicas": 3, "outer": {**outer, "learning_rate": 0.8}},
        {"steps": 2, "replicas": 3, "outer": {**outer, "momentum": 0.8}},
        {"steps": 2, "replicas": 3, "outer": {**outer, "nesterov": False}},
        {},
    ]
    assert len({make_run(make_recipe(rounds=rounds)).digest for rounds in variants}) == len(variants)


def test_servers_of_slices_commit_what_one_server_does(make_recipe):
    recipe = make_recipe(model={"hidden": [300, 300]}, rounds={"steps": 2, "replicas": 3})
    plan = make_plan(Config(recipe=recipe), prepare(recipe.data, recipe.seed))
    state = plan.initial_state()
    bounds = [(0, BLOCK), (BLOCK, len(state.parameters))]
    assert bounds[1][0] < bounds[1][1]
    whole = make_server(plan.server, state)
    slices = [make_server(plan.server, slice_state(state, *ends), ends[0]) for ends in bounds]
    for order in list(orders(plan))[:4]:
        results = compute(plan, whole.parameters, order, num_workers=2)
        report = whole.commit(order, results)
        parts = [
            server.commit(order, [slice_result(result, *ends) for result in results], lambda squares: squares)
            for server, ends in zip(slices, bounds, strict=True)
        ]
        assert (np.concatenate([server.parameters for server in slices]) == whole.parameters).all()
        assert sum(int(part.checksum, 16) for part in parts) % (1 << 64) == int(report.checksum, 16)
        assert [part.loss for part in parts] == [report.loss] * 2


def compute(plan, parameters, order, num_workers: int) -> list[ShardResult]:
    found = shards(order.num_microbatches, num_workers)
    return [make_worker(plan.worker).compute(parameters, order, shard) for shard in found]


def test_a_round_is_committed_once(make_recipe):
    recipe = make_recipe()
    plan = make_plan(Config(recipe=recipe), prepare(recipe.data, recipe.seed))
    server, order = make_server(plan.server, plan.initial_state()), next(orders(plan))
    results = compute(plan, server.parameters, order, num_workers=1)
    server.commit(order, results)
    with pytest.raises(ValueError, match="the round from step 0 was committed while step 2 is next"):
        server.commit(order, results)


def test_a_round_without_one_of_its_replicas_is_refused(make_recipe):
    recipe = make_recipe()
    plan = make_plan(Config(recipe=recipe), prepare(recipe.data, recipe.seed))
    server, order = make_server(plan.server, plan.initial_state()), next(orders(plan))
    results = compute(plan, server.parameters, order, num_workers=3)
    with pytest.raises(ValueError, match="missing"):
        server.commit(order, results[:1] + results[2:])


def test_a_round_in_which_a_replica_diverges_changes_nothing_and_says_where(make_recipe):
    recipe = make_recipe(optimizer={"learning_rate": 1e30}, rounds={"steps": 4, "replicas": 3})
    plan = make_plan(Config(recipe=recipe), prepare(recipe.data, recipe.seed))
    state: TrainState = plan.initial_state()
    server, order = make_server(plan.server, state), next(orders(plan))
    report = server.commit(order, compute(plan, server.parameters, order, num_workers=2))
    assert not report.committed
    assert not np.isfinite(report.loss)
    assert all(np.isfinite(before.loss) for before in report.steps)
    assert [one.step for one in report.unrolled()] == list(range(1, report.step + 1))
    assert (server.parameters == state.parameters).all()
    assert server.snapshot().state.step == 0


def test_the_newest_reports_are_remembered_and_not_all(make_recipe):
    """As many steps as a server of single steps remembers, in whole rounds."""
    recipe = make_recipe(rounds={"steps": 5, "replicas": 2}, epochs=110)
    plan = make_plan(Config(recipe=recipe), prepare(recipe.data, recipe.seed))
    server, worker = make_server(plan.server, plan.initial_state()), make_worker(plan.worker)
    for order in orders(plan):
        server.commit(order, [worker.compute(server.parameters, order, shards(2, 1)[0])])
    steps = [report.step for report in server.snapshot().reports]
    assert steps == list(range(550 - len(steps) + 1, 551))
    assert 512 <= len(steps) < 512 + 5
