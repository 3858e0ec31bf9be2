"""Rounds against what they must equal: plain SGD, SGD that begins anew, and a loop written independently."""

from __future__ import annotations

import numpy as np
import pytest
from numpy_loop import train_in_rounds
from rounds_by_hand import PLAIN, train_with_resets

from distbp.config import Config
from distbp.data import prepare
from distbp.nn.digests import digest
from distbp.nn.streams import epoch_order
from distbp.training.plan import make_plan

SGD = {"learning_rate": 0.1, "momentum": 0.0}
ENDS_BY_TWO = [end + epoch for epoch in (0, 5, 10) for end in (2, 4, 5)]
OPTIMIZERS = [
    {"learning_rate": 0.05, "momentum": 0.9},
    {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "clip_norm": 0.5},
    {"learning_rate": 0.01, "kind": "adamw", "weight_decay": 0.1},
]


@pytest.mark.parametrize("replicas", [1, 2, 3, 5])
def test_rounds_of_one_step_that_become_the_mean_are_plain_sgd_within_rounding(replicas, make_recipe, make_run):
    rounds = {"steps": 1, "replicas": replicas, "outer": PLAIN}
    apart = make_run(make_recipe(optimizer=SGD, dtype="float64", rounds=rounds))
    step_wise = make_run(make_recipe(optimizer=SGD, dtype="float64", rounds={}))
    np.testing.assert_allclose(apart.state.parameters, step_wise.state.parameters, rtol=1e-12, atol=1e-14)
    losses = [[report.loss for report in run.reports] for run in (apart, step_wise)]
    np.testing.assert_allclose(*losses, rtol=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_replica_that_becomes_the_mean_is_an_optimizer_that_begins_anew_every_round(
    optimizer, dtype, make_recipe, make_run
):
    is_adamw = optimizer.get("kind") == "adamw"
    fields = {
        "optimizer": optimizer,
        "dtype": dtype,
        "model": {"hidden": [7, 5], "dropout": 0.0 if is_adamw else 0.2},
        "schedule": {"kind": "cosine", "warmup_steps": 3},
    }
    rounds = {"steps": 2, "replicas": 1, "outer": PLAIN}
    apart = make_run(make_recipe(rounds=rounds, **fields))
    reset = train_with_resets(make_recipe(rounds={}, **fields), ENDS_BY_TWO, counts_anew=is_adamw)
    assert apart.digest == digest(reset.parameters)


def test_without_the_new_beginning_it_would_not_be(make_recipe, make_run):
    recipe = make_recipe(rounds={})
    assert digest(train_with_resets(recipe, ENDS_BY_TWO, False).parameters) != make_run(recipe).digest


@pytest.mark.parametrize("nesterov", [True, False])
def test_three_replicas_in_rounds_of_four_are_a_loop_in_numpy(nesterov, make_recipe, make_run):
    if not nesterov:
        outer = {"learning_rate": 0.7, "momentum": 0.0, "nesterov": False}
    else:
        outer = {"learning_rate": 0.7, "momentum": 0.9, "nesterov": True}
    recipe = make_recipe(dtype="float64", rounds={"steps": 4, "replicas": 3, "outer": outer})
    data = prepare(recipe.data, recipe.seed)
    plan = make_plan(Config(recipe=recipe), data)
    x, y = data.train.ready("float64").take(slice(None), "float64")
    expected = train_in_rounds(
        list(plan.layout.views(plan.initial_state().parameters).values()),
        x,
        y,
        [epoch_order(recipe.seed, epoch, len(y)) for epoch in range(recipe.epochs)],
        batch=50,
        microbatch=7,
        replicas=3,
        steps=4,
        rate=0.05,
        momentum=0.9,
        outer_rate=0.7,
        outer_momentum=outer["momentum"],
    )
    found = plan.layout.views(make_run(recipe).state.parameters)
    for tensor, by_hand in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(tensor, by_hand, rtol=1e-10, atol=1e-12)


def test_a_parameter_that_no_replica_changes_keeps_its_value(make_recipe, make_run, toy_data, tmp_path):
    """The first input is always 0, so its weights have no gradient."""
    with np.load(toy_data / "toy.npz") as arrays:
        x, y = arrays["x"].copy(), arrays["y"]
    x[:, 0] = 0
    np.savez(tmp_path / "zero.npz", x=x, y=y)
    recipe = make_recipe(data={"source": str(tmp_path / "zero.npz"), "validation": 0.0, "scaling": "none"})
    plan = make_plan(Config(recipe=recipe), prepare(recipe.data, recipe.seed))
    before, after = (
        plan.layout.views(flat)[plan.layout.entries[0].name][:, 0]
        for flat in (plan.initial_state().parameters, make_run(recipe).state.parameters)
    )
    assert len(before) == 7
    assert (before == after).all()
