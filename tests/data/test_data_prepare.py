"""prepare and read_examples as their callers see them."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from data_files import (
    KINDS,
    NUM_EXAMPLES,
    labels,
    pixels,
    table_columns,
    write_csv,
    write_idx_folder,
    write_npy_pair,
    write_npz,
    write_parquet,
    write_source,
)

import distbp.data
from distbp.config import Data
from distbp.data import finite, prepare, read_examples
from distbp.errors import DataError


def all_inputs(examples):
    return examples.take(slice(None), np.float64)[0]


def test_public_names_are_these():
    assert distbp.data.__all__ == [
        "PreparedData",
        "Schema",
        "advise_on_targets",
        "as_source",
        "find_doubts",
        "hold",
        "is_in_blocks",
        "prepare",
        "prepare_in_memory",
        "read_columns",
        "read_examples",
        "read_features",
        "take_features",
    ]


@pytest.mark.slow
def test_digits_load_without_pyarrow_or_scikit_learn():
    code = (
        "import sys, distbp.data, distbp.config; p = distbp.data.prepare(distbp.config.Data(), 0);"
        "assert len(p.train) + len(p.validation) == 1797;"
        "assert not {'pyarrow', 'sklearn', 'matplotlib', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_digits_are_those_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    ours = prepare(Data(validation=0.0), seed=0).train
    assert ours.x.dtype == np.uint8
    np.testing.assert_array_equal(ours.x, theirs.data)
    np.testing.assert_array_equal(ours.y, theirs.target)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_gives_examples_that_partition_it(kind, tmp_path):
    prepared = prepare(Data(source=str(write_source(kind, tmp_path)), validation=0.25), seed=3)
    rows = np.concatenate([prepared.train.rows, prepared.validation.rows])
    assert sorted(rows) == list(range(NUM_EXAMPLES))
    assert len(prepared.validation) == 3
    assert prepared.train.y.dtype == np.int64
    assert prepared.schema.source_kind == kind.removesuffix(".gz")


@pytest.mark.parametrize("kind", KINDS)
def test_data_read_back_with_the_schema_is_the_same(kind, tmp_path):
    source = str(write_source(kind, tmp_path))
    prepared = prepare(Data(source=source, validation=0.0), seed=0)
    again = read_examples(prepared.schema, source, None, need_targets=True)
    assert again.fingerprint() == prepared.train.fingerprint()
    np.testing.assert_array_equal(all_inputs(again), all_inputs(prepared.train))


@pytest.mark.parametrize("kind", KINDS)
def test_targets_may_be_missing_when_they_are_not_needed(kind, tmp_path):
    source = write_source(kind, tmp_path)
    schema = prepare(Data(source=str(source)), seed=0).schema
    if kind == "csv":
        write_csv(source, {name: v for name, v in table_columns().items() if name != "label"})
    elif kind == "parquet":
        write_parquet(source, {name: v for name, v in table_columns().items() if name != "label"})
    elif kind == "npz":
        write_npz(source, x=pixels())
    else:
        for path in [*tmp_path.glob("*labels*"), *tmp_path.glob("y.npy")]:
            path.unlink()
    examples = read_examples(schema, str(source), None, need_targets=False)
    assert examples.y.shape == (NUM_EXAMPLES, 0)
    assert examples.y.dtype == np.float64
    with pytest.raises(DataError):
        read_examples(schema, str(source), None, need_targets=True)


def test_memory_mapped_arrays_train_without_being_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(finite, "CHUNK_VALUES", 1 << 16)
    x = np.random.default_rng(0).random((10_000, 20, 20), np.float32)  # 16 MB
    source = write_npy_pair(tmp_path, x, np.arange(10_000) % 7)
    del x
    prepare(Data(source=str(source)), seed=0)  # imports and caches are not what is measured
    tracemalloc.start()
    prepared = prepare(Data(source=str(source), validation=0.2, scaling="min-max"), seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(prepared.train.x, np.memmap)
    assert prepared.train.x is prepared.validation.x
    assert prepared.train.x.shape == (10_000, 400)
    assert prepared.train.x.filename == source
    assert peak < 4e6  # a chunk as float32 and float64, rows and targets


def test_validation_path_is_read_with_the_training_classes_and_scaling(tmp_path):
    train = write_npz(tmp_path / "train.npz", x=np.array([[0.0], [10.0]]), y=np.array(["b", "a"]))
    held_out = write_npz(tmp_path / "other.npz", x=np.array([[5.0], [20.0]]), y=np.array(["b", "b"]))
    data = Data(source=str(train), validation=str(held_out), scaling="min-max")
    validation = prepare(data, seed=0).validation
    assert validation.y.tolist() == [1, 1]
    assert all_inputs(validation).tolist() == [[0.5], [2.0]]


def test_validation_arrays_have_their_own_targets(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_npy_pair(tmp_path / name, pixels(), labels())
    (tmp_path / "a" / "y.npy").rename(tmp_path / "answers.npy")
    np.save(tmp_path / "b" / "y.npy", labels()[::-1])
    data = Data(
        source=str(tmp_path / "a" / "x.npy"),
        target=str(tmp_path / "answers.npy"),
        validation=str(tmp_path / "b" / "x.npy"),
    )
    prepared = prepare(data, seed=0)
    assert prepared.train.y.tolist() == labels().tolist()
    assert prepared.validation.y.tolist() == labels()[::-1].tolist()


def test_validation_folder_means_its_t10k_files(tmp_path):
    folder = str(write_idx_folder(tmp_path, num_held_out=6))
    prepared = prepare(Data(source=folder, validation=folder), seed=0)
    assert (len(prepared.train), len(prepared.validation)) == (NUM_EXAMPLES, 6)
    np.testing.assert_array_equal(read_examples(prepared.schema, folder, None, True).x, pixels(6).reshape(6, 6))


@pytest.mark.parametrize("kind", KINDS)
def test_training_data_is_refused_as_its_own_validation(kind, tmp_path):
    source = str(write_source(kind, tmp_path))
    with pytest.raises(DataError, match="is the training data itself"):
        prepare(Data(source=source, validation=source), seed=0)


def test_unknown_label_in_other_data_is_named(tmp_path):
    schema = prepare(Data(source=str(write_source("csv", tmp_path))), seed=0).schema
    other = write_csv(tmp_path / "other.csv", {"width": [1.5], "height": [2], "label": ["cactus"]})
    with pytest.raises(DataError, match=r"label 'cactus'.* 'daisy', 'rose', 'tulip'"):
        read_examples(schema, str(other), None, need_targets=True)


def test_columns_are_matched_by_name_and_others_ignored(tmp_path):
    schema = prepare(Data(source=str(write_source("csv", tmp_path)), scaling="none"), seed=0).schema
    mixed = {"label": ["rose"], "note": ["text"], "height": [7], "width": [0.5]}
    for other in (write_csv(tmp_path / "o.csv", mixed), write_parquet(tmp_path / "o.parquet", mixed)):
        examples = read_examples(schema, str(other), None, need_targets=True)
        assert all_inputs(examples).tolist() == [[0.5, 7.0]]
        assert examples.y.tolist() == [1]


def test_inputs_of_another_shape_are_refused_and_flat_ones_are_not(tmp_path):
    schema = prepare(Data(source=str(write_source("npz", tmp_path))), seed=0).schema
    flat = write_npz(tmp_path / "flat.npz", x=pixels().reshape(NUM_EXAMPLES, 6), y=labels())
    assert len(read_examples(schema, str(flat), None, True)) == NUM_EXAMPLES
    for shape in ((NUM_EXAMPLES, 3, 2), (NUM_EXAMPLES // 2, 12)):
        other = write_npz(tmp_path / "other.npz", x=pixels().reshape(shape), y=labels(shape[0]))
        with pytest.raises(DataError, match=r"the run was trained on \(2, 3\)"):
            read_examples(schema, str(other), None, True)


def test_whole_numbers_stay_small(tmp_path):
    columns = {"a": [0, 255], "b": [3, 4], "y": [1.5, 2.5]}
    for source in (write_csv(tmp_path / "d.csv", columns), write_parquet(tmp_path / "d.parquet", columns)):
        assert prepare(Data(source=str(source), validation=0.0), seed=0).train.x.dtype == np.uint8
