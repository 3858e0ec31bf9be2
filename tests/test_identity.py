"""Which recipe a recipe is: it may grow, its data may move, and its defaults may change without a silent mix-up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, create_model

from distbp.config import Optimizer, Recipe
from distbp.config.identity import DEFAULTS_OF_0_1_0, FIRST_DEFAULTS, complete, flatten

pytestmark = pytest.mark.slow

AWAY: dict[str, st.SearchStrategy[Any]] = {
    "data.target": st.sampled_from(["price", ["x", "y"], ["x"], "1e3"]),
    "data.task": st.sampled_from(["classification", "regression"]),
    "data.validation": st.sampled_from([0.0, 0.25, "held-out.csv"]),
    "data.scaling": st.sampled_from(["none", "standard"]),
    "data.window_blocks": st.integers(5, 100),
    "model.hidden": st.sampled_from([[], [64], [32, 64], [64, 32, 1]]),
    "model.activation": st.sampled_from(["sigmoid", "tanh", "gelu", "identity"]),
    "model.loss": st.just("squared_error"),
    "model.init": st.sampled_from(["glorot", "normal"]),
    "model.dropout": st.floats(0.001, 0.999),
    "model.function": st.sampled_from(["m:f", "m.n:f"]),
    "model.options": st.just({"width": 3}),
    "model.torch": st.sampled_from(["m:g", "m.n:g"]),
    "model.loss_per": st.just("token"),
    "model.initial": st.sampled_from(["w.safetensors", "runs/one"]),
    "data.columns": st.sampled_from([{"a": "category"}, {"a": "number", "b": "ignore"}]),
    "data.target_scaling": st.just("standard"),
    "data.weight": st.just("w"),
    "data.class_weights": st.sampled_from(["balanced", {"a": 2.0}]),
    "optimizer.kind": st.just("adamw"),
    "optimizer.betas": st.tuples(st.floats(0, 0.8), st.floats(0, 0.99)),
    "optimizer.eps": st.floats(1e-7, 1),
    "optimizer.decay_groups": st.just({"*.bias": 0.1}),
    "optimizer.learning_rate": st.floats(1e-9, 10).filter(lambda x: x != 0.1),
    "optimizer.momentum": st.floats(0.001, 0.899),
    "optimizer.nesterov": st.just(True),
    "optimizer.weight_decay": st.floats(1e-9, 1),
    "optimizer.clip_norm": st.floats(1e-9, 10),
    "schedule.kind": st.sampled_from(["step", "cosine"]),
    "schedule.warmup_steps": st.integers(1, 10**6),
    "schedule.decay_epochs": st.integers(11, 10**6),
    "schedule.decay_factor": st.floats(0.2, 1),
    "schedule.final_fraction": st.floats(0.001, 1),
    "schedule.lr_scaling": st.sampled_from(["linear", "sqrt"]),
    "schedule.reference_batch_size": st.integers(1, 10**6),
    "early_stopping.patience": st.integers(1, 10**6),
    "early_stopping.min_delta": st.floats(1e-9, 1),
    "early_stopping.monitor": st.sampled_from(["accuracy", "r2"]),
    "rounds.steps": st.integers(1, 10**6),
    "rounds.replicas": st.integers(1, 3),
    "rounds.outer.learning_rate": st.floats(0.01, 0.6),
    "rounds.outer.momentum": st.floats(0.001, 0.8),
    "rounds.outer.nesterov": st.just(False),
    "global_batch_size": st.integers(65, 10**6),
    "microbatch_size": st.integers(9, 64),
    "epochs": st.integers(21, 10**6),
    "seed": st.integers(1, 2**63 - 1),
    "dtype": st.just("float64"),
}
NEEDS = {  # what must be set as well so that a field may be
    "model.options": {"model.function": "m:f"},
    "model.loss_per": {"model.torch": "m:g"},
    "schedule.lr_scaling": {"schedule.reference_batch_size": 32},
    "rounds.replicas": {"rounds.steps": 20},
    "rounds.outer.learning_rate": {"rounds.steps": 20},
    "rounds.outer.momentum": {"rounds.steps": 20},
    "rounds.outer.nesterov": {"rounds.steps": 20},
}


def nest(values: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *sections, last = name.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return nested


def make(values: dict[str, Any], kind: type[Recipe] = Recipe) -> Recipe:
    return kind.model_validate(nest(values))


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    """A few fields away from their defaults, together with what they need."""
    names = draw(st.lists(st.sampled_from(sorted(AWAY)), unique=True, max_size=5))
    chosen = {name: draw(AWAY[name]) for name in names}
    for name in names:
        chosen = {**NEEDS.get(name, {}), **chosen}
    contradictions = [
        {"data.validation": 0.0, "early_stopping.patience": chosen.get("early_stopping.patience")},
        {"optimizer.kind": "adamw", "optimizer.nesterov": True},
        {"model.function": chosen.get("model.function"), "model.torch": chosen.get("model.torch")},
    ]
    return {} if any(part.items() <= chosen.items() for part in contradictions) else chosen


def grow(default: object) -> type[Recipe]:
    """The recipe of a later version: another field at the top and another in a section."""
    optimizer = create_model("Optimizer", __base__=Optimizer, later=(Any, Field(default)))
    return create_model("Recipe", __base__=Recipe, optimizer=(optimizer, optimizer()), replicas=(Any, Field(default)))


@given(changes(), st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.integers())))
def test_a_field_that_a_later_version_adds_changes_no_recipes_identity(values, default):
    assert make(values, grow(default)).digest == make(values).digest
    assert make(values, grow(default)).digest_of_0_1_0 == make(values).digest_of_0_1_0


@given(changes())
def test_a_field_that_a_later_version_adds_is_part_of_the_identity_once_it_is_set(values):
    grown = grow(1)
    assert len({make({**values, **more}, grown).digest for more in ({}, {"replicas": 2}, {"optimizer.later": 2})}) == 3


def test_the_changes_tried_here_are_those_of_every_field():
    assert {*AWAY, "data.source"} == set(FIRST_DEFAULTS)


@given(changes(), changes())
def test_recipes_have_one_identity_just_when_they_are_the_same(a, b):
    assert (make(a).digest == make(b).digest) is (make(a) == make(b))


@pytest.mark.parametrize("name", sorted(AWAY))
def test_every_field_away_from_its_default_is_another_identity(name):
    @given(AWAY[name])
    def check(value: object) -> None:
        needed = NEEDS.get(name, {})
        assert make({**needed, name: value}).digest != make(needed).digest

    check()


def test_every_field_has_its_first_default_on_record():
    assert {name for name, _ in flatten(Recipe())} == set(FIRST_DEFAULTS)
    assert {name: FIRST_DEFAULTS[name] for name in DEFAULTS_OF_0_1_0} == dict(DEFAULTS_OF_0_1_0)


def test_new_defaults_are_a_new_recipe_and_old_runs_keep_theirs():
    optimizer = create_model("Optimizer", __base__=Optimizer, momentum=(float, Field(0.5)))
    later = create_model("Recipe", __base__=Recipe, optimizer=(optimizer, optimizer()))
    assert make({}, later).digest == make({"optimizer.momentum": 0.5}).digest != make({}).digest
    assert make({"optimizer.momentum": 0.9}, later).digest == make({}).digest
    stored = Recipe().model_dump(mode="json")
    del stored["optimizer"]["momentum"]  # as if the version that stored it had not had the field
    assert later.model_validate(complete(stored)).digest == make({}).digest


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("data.source", ["digits", "a.csv", "/data/b.csv"]),
        ("data.validation", ["a.csv", "/data/b.csv"]),
        ("data.target", ["y.npy", "/data/targets.npy", None]),
    ],
)
def test_where_the_data_lie_is_no_part_of_the_identity(name, values):
    assert len({make({name: value}).digest for value in values}) == 1


@given(changes(), st.sampled_from(sorted({*AWAY} - {"microbatch_size"})))
def test_a_stored_recipe_without_a_field_is_completed_to_the_one_it_was(values, name):
    recipe = make(values)
    stored = dict(flatten(recipe))
    assert Recipe.model_validate(complete(nest(stored))) == recipe
    if stored[name] == FIRST_DEFAULTS[name]:
        del stored[name]
        assert Recipe.model_validate(complete(nest(stored))) == recipe
