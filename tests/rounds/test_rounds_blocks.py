"""Rounds on data in blocks: the bytes of any number of workers, the loop by hand, and how long data were waited for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy_loop import gradients
from rounds_by_hand import ROUNDS

from distbp import Recipe
from distbp.backends.local import LocalBackend
from distbp.config import Config, Placement
from distbp.data import prepare
from distbp.data.blocks.examples import make_order
from distbp.errors import TerminatedRunError
from distbp.nn.digests import digest
from distbp.report import read_story
from distbp.run import RunDirectory
from distbp.training.plan import Plan, make_plan

FIELDS = ("step", "loss", "num_examples", "checksum", "replicas")


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> str:
    """400 examples of three noisy classes in shards of uneven sizes."""
    folder, rng = tmp_path_factory.mktemp("blocks"), np.random.default_rng(7)
    centers = rng.standard_normal((3, 4))
    for number, size in enumerate((57, 130, 91, 43, 79)):
        y = rng.integers(0, 3, size)
        np.savez(folder / f"part-{number}.npz", x=(centers[y] + rng.standard_normal((size, 4))).astype(np.float32), y=y)
    return str(folder)


@pytest.fixture
def make_blocks_recipe(make_recipe, blocks) -> Callable[..., Recipe]:
    """Returns a recipe of 2 epochs of 7 steps of 50 examples, 8 lanes, in rounds of 2."""

    def make(**fields: object) -> Recipe:
        data = {"source": blocks, "validation": 0.2, "window_blocks": 2}
        return make_recipe(**{"data": data, "epochs": 2, **fields})

    return make


def train_plan(recipe: Recipe, num_workers: int, threads: int = 1, memory: str = "64MB") -> tuple[Plan, str, list]:
    placement = Placement(threads_per_worker=threads, memory_for_data=memory)
    plan = make_plan(Config(recipe=recipe, placement=placement), prepare(recipe.data, recipe.seed))
    assert not hasattr(plan.worker.train, "x")  # nobody holds them
    backend = LocalBackend(num_workers, num_threads=num_workers)
    reports, step = [], 0
    try:
        backend.start(plan.worker, plan.server, plan.initial_state())
        while step < plan.num_steps:
            order = plan.order(step)
            step = order.end
            reports += backend.run(iter([order]))
        found = digest(backend.snapshot().state.parameters)
    finally:
        backend.close()
    return plan, found, reports


@pytest.mark.parametrize("replicas", [1, 3, 8])
def test_the_bytes_depend_neither_on_workers_nor_on_memory(replicas, make_blocks_recipe):
    recipe = make_blocks_recipe(rounds={"steps": 3, "replicas": replicas})
    ways = ((1, 1, "64MB"), (2, 1, "0B"), (3, 2, "64MB"), (5, 1, "64MB"), (1, 3, "0B"))
    runs = [train_plan(recipe, *way) for way in ways]
    assert len({found for _, found, _ in runs}) == 1
    logs = {tuple(tuple(getattr(r, name) for name in FIELDS) for r in reports) for _, _, reports in runs}
    assert len(logs) == 1


def test_every_replica_takes_the_examples_of_its_own_lanes(make_blocks_recipe):
    """The first round written again: plain SGD on the rows that the lanes of each replica name."""
    outer = {"learning_rate": 1.0, "momentum": 0.0, "nesterov": False}
    recipe = make_blocks_recipe(
        dtype="float64",
        optimizer={"learning_rate": 0.05, "momentum": 0.0},
        rounds={"steps": 3, "replicas": 3, "outer": outer},
        model={"hidden": [7], "activation": "relu"},
    )
    plan = make_plan(Config(recipe=recipe), prepare(recipe.data, recipe.seed))
    supply, layout = plan.worker.train, plan.layout
    held = supply.hold().ready(np.float64)
    order = make_order(supply.source, 50, 7, 2, recipe.seed)
    starts = np.concatenate([[0], np.cumsum(supply.source.rows_in_blocks(False))])

    def rows(step: int, lanes: range) -> np.ndarray:
        found = [order.select(step, lane) for lane in lanes]
        return np.concatenate([starts[lane.blocks] + lane.rows for lane in found])

    first, ends, seen = plan.initial_state().parameters, [], []
    for lanes in (range(2), range(2, 5), range(5, 8)):
        theta = first.copy()
        tensors, count = [*layout.views(theta).values()], 0
        for step in range(3):
            chosen = rows(step, lanes)
            x, y = held.take(chosen, np.dtype(np.float64))[:2]
            count += len(chosen)
            for tensor, gradient in zip(tensors, gradients(tensors[::2], tensors[1::2], x, y), strict=True):
                tensor -= 0.05 * gradient
        ends.append(theta)
        seen.append(count)
    expected = np.average(ends, axis=0, weights=seen)

    backend = LocalBackend(2, num_threads=2)
    try:
        backend.start(plan.worker, plan.server, plan.initial_state())
        list(backend.run(iter([plan.order(0)])))
        np.testing.assert_allclose(backend.snapshot().state.parameters, expected, rtol=1e-9, atol=1e-12)
    finally:
        backend.close()


@pytest.mark.parametrize("end", [2, 6, 7, 9])
def test_a_run_resumed_after_any_round_ends_like_an_undisturbed_one(end, make_blocks_recipe, train_toy):
    recipe = make_blocks_recipe()

    def stop(progress) -> None:
        if progress.position.step == end:
            raise KeyboardInterrupt

    with pytest.raises((TerminatedRunError, KeyboardInterrupt)):
        train_toy("stopped", recipe, observe=stop, workers=2)
    assert train_toy("stopped", recipe, workers=3).digest == train_toy("whole", recipe).digest


@pytest.mark.slow
def test_what_rounds_wait_for_data_is_in_steps_result_and_report(make_blocks_recipe, train_toy):
    recipe = make_blocks_recipe(rounds={**ROUNDS, "replicas": 2})
    result = train_toy("blocks", recipe, workers=2, memory_for_data="0B")
    records = RunDirectory.open(result.run).read_steps()
    waits = [record.data_s for record in records]
    assert len(waits) == 14
    assert sum(waits) > 0
    assert sum(waits) == pytest.approx(result.data_s, abs=1e-3)
    assert read_story(result.run).times.data_s == pytest.approx(np.mean(waits))


def test_waiting_is_no_part_of_the_seconds_of_computing(make_blocks_recipe):
    _, _, reports = train_plan(make_blocks_recipe(), 1, memory="0B")
    assert all(report.compute_s >= 0 and report.wait_s >= 0 for report in reports)
    assert sum(report.data_s for report in reports) > 0


def test_data_in_memory_are_not_waited_for_in_rounds(train_toy):
    result = train_toy("memory")
    assert result.data_s == 0
    assert b"data_s" not in (Path(result.run) / "steps.jsonl").read_bytes()
