"""train() on data in blocks: one digest for any workers, memory, cache and interruptions."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from block_files import KINDS, SIZES, draw, write_blocks, write_file

from distbp import Recipe, load_run, train, verify
from distbp.backends.local import LocalBackend
from distbp.data import prepare
from distbp.errors import CheckpointError, DataError
from distbp.protocol.examples import Examples

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("blocks") / "d")


@pytest.fixture
def make_block_recipe(make_recipe, folder: Path) -> Callable[..., Recipe]:
    """As `make_recipe`, on the folder; a batch of 60 in microbatches of 7 has 9 lanes, the last of 4."""

    def make(source: object = folder, validation: object = 0.2, window_blocks: int = 2, **fields: object) -> Recipe:
        values = {"source": str(source), "validation": validation, "window_blocks": window_blocks}
        return make_recipe(data=values, **{"global_batch_size": 60, **fields})

    return make


@pytest.fixture
def train_blocks(make_block_recipe, make_placement) -> Callable[..., object]:
    """Trains in as many threads as workers: the local backend itself would use one for so small a network."""

    def run(name: str = "run", recipe: Recipe | None = None, observe=None, **placement: object):
        made = make_placement(**placement)
        return train(
            recipe or make_block_recipe(),
            made,
            name=name,
            observe=observe,
            connect=lambda p: LocalBackend(p.max_workers, num_threads=p.max_workers),
        )

    return run


def test_the_digest_does_not_depend_on_workers_threads_or_memory(train_blocks):
    placements = [
        {"workers": 1},
        {"workers": 2},
        {"workers": 5},
        {"workers": 2, "threads_per_worker": 2},
        {"workers": 1, "memory_for_data": "3kB"},  # of blocks of 40 rows with 960 bytes
        {"workers": 3, "memory_for_data": "0B"},
    ]
    results = [train_blocks(f"run-{n}", **placement) for n, placement in enumerate(placements)]
    for result in results[1:]:
        assert result.digest == results[0].digest
        assert (result.train_loss, result.validation_loss) == (results[0].train_loss, results[0].validation_loss)
        assert verify(results[0].run, result.run).first_difference is None


@pytest.mark.parametrize("step", range(1, 12))
def test_a_run_stopped_in_the_middle_of_an_epoch_ends_like_an_undisturbed_one(step, train_blocks, stop_at):
    whole = train_blocks("whole", workers=1)
    assert whole.steps == 12
    with pytest.raises(Exception, match="resumes"):
        train_blocks(workers=2, observe=stop_at(step))
    assert train_blocks(workers=3).digest == whole.digest


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_every_kind_are_trained_on_validated_and_predicted(kind, tmp_path, train_blocks, make_block_recipe):
    source, other = write_blocks(tmp_path / "d", kind), write_blocks(tmp_path / "v", kind, seed=1)
    result = train_blocks(recipe=make_block_recipe(source, str(other), epochs=10))
    run = load_run(result.run)
    report = run.evaluate()
    assert report.num_examples == sum(SIZES)
    assert report.accuracy == result.validation_accuracy > 0.45  # of 400: five deviations above chance
    assert run.evaluate(str(other)).loss == report.loss == pytest.approx(result.validation_loss, rel=1e-6)
    x, y = draw(seed=1)
    predictions = run.predict(str(other))
    assert np.mean(predictions.labels == y) == report.accuracy
    assert np.allclose(predictions.outputs, run.predict(x).outputs, atol=1e-6)


def test_the_fraction_held_out_is_evaluated_again_by_evaluate(train_blocks):
    result = train_blocks()
    report = load_run(result.run).evaluate()
    data = prepare(load_run(result.run).config.recipe.data, 0)
    assert report.num_examples == len(data.validation) == sum(SIZES) - len(data.train)
    assert (report.loss, report.accuracy) == (result.validation_loss, result.validation_accuracy)


def test_a_glob_a_file_url_and_a_folder_are_the_same_data(folder, train_blocks, make_block_recipe):
    sources = [folder, f"{folder}/*.parquet", f"file://{folder}"]
    digests = {train_blocks(f"run-{n}", make_block_recipe(source)).digest for n, source in enumerate(sources)}
    assert len(digests) == 1


def test_single_files_stay_in_memory_and_a_url_to_one_is_blocks(folder, make_block_recipe):
    path = folder / "part-1.parquet"
    in_memory, in_blocks = (prepare(make_block_recipe(source).data, 0) for source in (path, f"file://{path}"))
    assert isinstance(in_memory.train, Examples)
    assert not isinstance(in_blocks.train, Examples)
    assert len(in_blocks.train) + len(in_blocks.validation) == SIZES[1]


def test_arrays_are_validated_on_blocks_and_blocks_on_an_array(tmp_path, train_blocks, make_block_recipe):
    source, other = write_blocks(tmp_path / "d", "npz"), write_blocks(tmp_path / "v", "npz", seed=1)
    x, y = draw(seed=1)
    write_file(tmp_path, "one", "npz", x, y)
    on_array = train_blocks("a", make_block_recipe(source, str(tmp_path / "one.npz")))
    on_blocks = train_blocks("b", make_block_recipe(source, str(other)))
    assert on_array.digest == on_blocks.digest
    assert on_array.validation_loss == on_blocks.validation_loss
    from_array = train_blocks("c", make_block_recipe(tmp_path / "one.npz", str(source)))
    assert from_array.validation_accuracy == load_run(from_array.run).evaluate().accuracy


def test_scaling_classes_and_inputs_are_those_of_the_whole_array(tmp_path, make_block_recipe):
    x, y = draw()
    write_file(tmp_path, "one", "parquet", x, y)
    blocks = write_blocks(tmp_path / "d")
    sources = (tmp_path / "one.parquet", blocks)
    data = [make_block_recipe(source, validation=0.0).data.model_copy(update={"columns": None}) for source in sources]
    array, in_blocks = (prepare(values, 0) for values in data)
    a, b = array.schema, in_blocks.schema
    assert np.allclose(a.scaling.shift, b.scaling.shift)
    assert np.allclose(a.scaling.scale, b.scaling.scale)
    bare = [dataclasses.replace(schema, scaling=None) for schema in (a, b)]
    assert bare[0] == bare[1]


def test_moved_blocks_go_on_and_changed_ones_do_not(tmp_path, train_blocks, make_block_recipe, stop_at):
    source = write_blocks(tmp_path / "d")
    with pytest.raises(Exception, match="resumes"):
        train_blocks(recipe=make_block_recipe(source), observe=stop_at(4))
    moved = Path(shutil.copytree(source, tmp_path / "moved"))
    changed = write_blocks(tmp_path / "changed", seed=5)
    with pytest.raises(CheckpointError, match=r"training data in '.*changed' are not those"):
        train_blocks(recipe=make_block_recipe(changed))
    result = train_blocks(recipe=make_block_recipe(moved))
    assert result.digest == train_blocks("whole", make_block_recipe(source)).digest
    (moved / "part-0.parquet").unlink()
    with pytest.raises(DataError, match=r"the data in '.*moved' are not those that .* was trained on"):
        load_run(result.run).evaluate()


def test_other_windows_are_another_recipe_with_another_order(train_blocks, make_block_recipe):
    narrow, wide = (train_blocks(f"w{n}", make_block_recipe(window_blocks=n)) for n in (1, 50))
    assert narrow.digest != wide.digest
    assert (
        make_block_recipe(window_blocks=4).digest
        == make_block_recipe()
        .model_copy(update={"data": make_block_recipe().data.model_copy(update={"window_blocks": 4})})
        .digest
    )


def test_the_training_data_are_no_validation_data(folder, make_block_recipe):
    for name in (str(folder), f"{folder}/*.parquet"):
        with pytest.raises(DataError, match="is the training data itself"):
            prepare(make_block_recipe(folder, name).data, 0)


def test_a_batch_as_large_as_all_examples_and_one_of_a_single_example(train_blocks, make_block_recipe):
    count = len(prepare(make_block_recipe().data, 0).train)
    for batch_size, microbatch_size in ((count, 50), (count, count), (1, 1)):
        recipe = make_block_recipe(global_batch_size=batch_size, microbatch_size=microbatch_size, epochs=1)
        digests = {train_blocks(f"b{batch_size}-{microbatch_size}-{w}", recipe, workers=w).digest for w in (1, 3)}
        assert len(digests) == 1


def test_blocks_sorted_by_class_are_warned_of(tmp_path, train_blocks, make_block_recipe, caplog):
    folder = tmp_path / "sorted"
    folder.mkdir()
    x, y = draw()
    for number in range(3):
        write_file(folder, f"{number}", "parquet", x[y == number], y[y == number])
    with caplog.at_level(logging.WARNING, "distbp"):
        train_blocks(recipe=make_block_recipe(folder))
    assert "sorted by class" in caplog.text
