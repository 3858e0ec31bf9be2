"""Tables beside data in blocks and rounds: what they do not have together is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distbp.config import Config, Placement, Recipe
from distbp.data import prepare
from distbp.errors import ConfigError, DataError
from distbp.protocol.messages import Shard
from distbp.protocol.planning import step_order
from distbp.protocol.supply import in_memory
from distbp.protocol.worker import Worker
from distbp.training.plan import make_plan


@pytest.fixture
def table(tmp_path) -> str:
    """Return a table of 80 rows with the weights 1 and 2."""
    rng = np.random.default_rng(0)
    rows = [
        f"{a:.3f},{'xyz'[i % 3]},{1 + i % 2},{1000 + 100 * b:.3f}" for i, (a, b) in enumerate(rng.normal(size=(80, 2)))
    ]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["a,c,w,y", *rows]) + "\n")
    return str(path)


@pytest.fixture
def blocks(tmp_path) -> str:
    """Return a folder with three blocks of 40 rows."""
    rng = np.random.default_rng(1)
    folder = tmp_path / "blocks"
    folder.mkdir()
    for number in range(3):
        rows = [f"{a:.3f},{b:.3f},{c:.3f}" for a, b, c in rng.normal(size=(40, 3))]
        (folder / f"{number}.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    return str(folder)


@pytest.fixture
def weighted_blocks(table, tmp_path) -> str:
    """Return a folder of two tables that are alike."""
    folder = tmp_path / "weighted"
    folder.mkdir()
    rows = [[a, w, y] for a, _, w, y in (line.split(",") for line in Path(table).read_text().splitlines())]
    for number in range(2):
        (folder / f"{number}.csv").write_text("\n".join(map(",".join, rows)) + "\n")
    return str(folder)


def make(**recipe):
    """Return the plan of a recipe."""
    config = Config(recipe=Recipe.model_validate(recipe), placement=Placement())
    return make_plan(config, prepare(config.recipe.data, config.recipe.seed))


def test_workers_divide_by_the_weights_of_their_microbatches(table):
    plan = make(data={"source": table, "target": "y", "weight": "w"})
    order = step_order(plan.recipe, 0, len(plan.data.train))
    parameters = plan.initial_state().parameters
    whole = Shard(0, order.num_microbatches, order.num_microbatches)
    (found,) = Worker(plan.worker).compute(parameters, order, whole).partials
    batch = plan.data.train.take_weights(slice(None))
    assert found.num_examples == 64 == len(batch)
    assert found.weight == batch.sum() != 64
    (held_out,) = Worker(plan.worker).evaluate(parameters, Shard(0, 1, 1))
    assert held_out.weight == plan.data.validation.take_weights(slice(None)).sum()


@pytest.mark.parametrize("source", ["table", "weighted_blocks"])
def test_rounds_do_not_take_weights(request, source):
    data = {"source": request.getfixturevalue(source), "target": "y"}
    rounds = {"steps": 1, "replicas": 2}
    with pytest.raises(ConfigError, match="rounds needs examples that all count the same"):
        make(data={**data, "weight": "w"}, rounds=rounds)
    assert make(data=data, rounds=rounds).recipe.rounds.replicas == 2


def test_rounds_learn_scaled_targets(table):
    settled = make(data={"source": table, "target": "y"}, rounds={"steps": 1, "replicas": 2}).recipe
    assert settled.data.target_scaling == "standard"


def test_kinds_of_columns_are_refused_for_blocks(blocks):
    with pytest.raises(DataError, match=r"data\.columns is for tables that are read whole"):
        make(data={"source": blocks, "target": "y", "columns": {"a": "category"}})


def test_weights_of_classes_are_refused_for_blocks_of_numbers(blocks):
    with pytest.raises(DataError, match="class_weights is for targets that are one class each"):
        make(data={"source": blocks, "target": "y", "class_weights": "balanced"})


def test_numbers_in_blocks_are_learned_as_they_are_unless_asked(blocks):
    plan = make(data={"source": blocks, "target": "y"})
    assert plan.recipe.model.loss == "squared_error"
    assert plan.recipe.data.target_scaling == "none"
    asked = make(data={"source": blocks, "target": "y", "target_scaling": "standard"})
    assert asked.data.schema.targets.scale is not None


def test_blocks_that_judge_arrays_get_the_scaling_of_their_targets(tmp_path, blocks):
    rng = np.random.default_rng(2)
    np.savez(tmp_path / "arrays.npz", x=rng.normal(size=(50, 2)), y=100 + 10 * rng.normal(size=50))
    plan = make(data={"source": str(tmp_path / "arrays.npz"), "validation": blocks})
    assert plan.recipe.data.target_scaling == "standard"
    assert in_memory(plan.data.validation).targets.scale == plan.data.train.targets.scale


def test_blocks_do_not_judge_a_table_with_columns_of_all_kinds(table, blocks):
    with pytest.raises(DataError, match=r"trained on a table, and .* is read in blocks; name a single file"):
        make(data={"source": table, "target": "y", "validation": blocks})


def test_a_batch_that_is_cut_to_the_data_keeps_microbatches_for_each_replica(table):
    plan = make(data={"source": table, "target": "y"}, rounds={"steps": 1, "replicas": 3}, global_batch_size=256)
    assert plan.recipe.global_batch_size == 64
    assert plan.recipe.microbatch_size == Recipe(rounds=plan.recipe.rounds, global_batch_size=64).microbatch_size
