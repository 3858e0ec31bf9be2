"""Scaling against scikit-learn, and the search for unusable values that shares its pass."""

import numpy as np
import pytest
from data_files import write_npz

from distbp.config import Data
from distbp.data import advise_on_targets, find_doubts, finite, prepare, read_examples, take_features
from distbp.errors import DataError

preprocessing = pytest.importorskip("sklearn.preprocessing")
THEIRS = {"standard": preprocessing.StandardScaler, "min-max": preprocessing.MinMaxScaler}


def write_inputs(folder, x):
    return str(write_npz(folder / "d.npz", x=x, y=np.arange(len(x)) % 2))


def example_inputs(dtype):
    numbers = np.random.default_rng(5)
    x = numbers.normal(1e4, [1e-2, 1.0, 50.0, 0.0], (3_000, 4)) if dtype == "f8" else numbers.integers(0, 9, (3_000, 4))
    x[:, 3] = 7  # constant
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", "i8", "f8"])
@pytest.mark.parametrize("kind", sorted(THEIRS))
def test_scaling_is_that_of_scikit_learn_on_the_training_rows(tmp_path, monkeypatch, kind, dtype):
    monkeypatch.setattr(finite, "CHUNK_VALUES", 1_000)  # many chunks
    x = example_inputs(dtype)
    prepared = prepare(Data(source=write_inputs(tmp_path, x), scaling=kind), seed=1)
    theirs = THEIRS[kind]().fit(x[prepared.train.rows].astype(np.float64))
    for examples in (prepared.train, prepared.validation):
        ours = examples.take(slice(None), np.float64)[0]
        np.testing.assert_allclose(ours, theirs.transform(x[examples.rows].astype(np.float64)), rtol=0, atol=1e-8)


def test_long_constant_features_are_recognised_as_constant(tmp_path):
    x = np.full((200_000, 2), 0.1)
    assert (x.mean(axis=0) != 0.1).all()  # a plain sum drifts
    scaling = prepare(Data(source=write_inputs(tmp_path, x), scaling="standard"), seed=0).schema.scaling
    assert (scaling.shift == 0.1).all()
    assert (scaling.scale == 1.0).all()


@pytest.mark.parametrize("kind", sorted(THEIRS))
def test_constant_and_nearly_constant_features_stay_finite(tmp_path, kind):
    x = np.array([[0.1, 5e-324, 0.0, 1e37], [0.1, 0.0, 0.0, -1e37]] * 50)
    train = prepare(Data(source=write_inputs(tmp_path, x), scaling=kind), seed=0).train
    inputs = train.scaling.cast(np.float32, train.x.dtype).apply(train.x, np.float32)
    assert np.isfinite(inputs).all()
    assert (inputs[:, [0, 2]] == 0).all()


def test_no_scaling_leaves_the_inputs_alone(tmp_path):
    x = example_inputs("f8")
    prepared = prepare(Data(source=write_inputs(tmp_path, x), scaling="none", validation=0.0), seed=0)
    np.testing.assert_array_equal(prepared.train.take(slice(None), np.float64)[0], x)


@pytest.mark.parametrize("kind", ["none", "min-max", "standard"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_unusable_values_are_counted_and_the_first_is_named(tmp_path, monkeypatch, kind, dtype):
    monkeypatch.setattr(finite, "CHUNK_VALUES", 100)
    x = np.ones((300, 2, 3), dtype)
    x[123, 1, 2] = np.nan
    x[200, 0, 1] = -np.inf
    for rows in (x, x[123:]):  # the first chunk, a later chunk
        where = rf"x\[{len(rows) - 177}, 1, 2\] is nan"
        with pytest.raises(DataError, match=f"2 values that cannot be used, the first: {where}"):
            prepare(Data(source=write_inputs(tmp_path, rows), scaling=kind), seed=0)


def test_unusable_values_are_found_in_validation_data_too(tmp_path):
    good, bad = np.ones((4, 2)), np.ones((4, 2))
    bad[3, 1] = np.inf
    write_npz(tmp_path / "bad.npz", x=bad, y=[0, 1, 0, 1])
    with pytest.raises(DataError, match=r"bad\.npz' has 1 values that cannot be used, the first: x\[3, 1\] is inf"):
        prepare(Data(source=write_inputs(tmp_path, good), validation=str(tmp_path / "bad.npz")), seed=0)


OFFSETS = {"unix": 1.7e9, "julian": 2_460_000.25, "identifier": 9e14, "coordinate": -5.8e6}


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("kind", sorted(THEIRS))
@pytest.mark.parametrize("dtype", ["f8", ">f8", "i8"])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_large_offset_takes_nothing_from_the_inputs(tmp_path, offset, kind, dtype, mapped):
    near = np.random.default_rng(1).integers(-30, 30, (400, 3)).astype(float)
    far = (near + np.floor(OFFSETS[offset]) + [0, 1e3, 2e6]).astype(dtype)
    source = str(tmp_path / "x.npy") if mapped else write_inputs(tmp_path, far)
    np.save(tmp_path / "x.npy", far)
    np.save(tmp_path / "y.npy", np.arange(400) % 2)
    prepared = prepare(Data(source=source, scaling=kind), seed=0)
    other = take_features(prepared.schema, far)
    for examples in (prepared.train, prepared.validation, read_examples(prepared.schema, source), other):
        rows = near[examples.rows]
        expected = THEIRS[kind]().fit(near[prepared.train.rows]).transform(rows)
        ours = examples.ready("float32").take(slice(None), "float32")[0]
        np.testing.assert_allclose(ours, expected, atol=0.02)


@pytest.mark.parametrize("kind", sorted(THEIRS))
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f2", "f4", "f8"])
def test_inputs_that_float32_can_tell_apart_keep_their_bits(tmp_path, kind, dtype):
    """The map of version 0.1.0: rounded first, then shifted."""
    x = np.random.default_rng(2).normal(100, [1, 30, 5], (300, 3)).round(1).astype(dtype)
    prepared = prepare(Data(source=write_inputs(tmp_path, x), scaling=kind), seed=0)
    shift, scale = (array.astype("f4") for array in (prepared.schema.scaling.shift, prepared.schema.scaling.scale))
    expected = (x.astype("f4") - shift) * scale
    ours = prepared.train.ready("float32").take(slice(None), "float32")[0]
    assert ours.tobytes() == expected[prepared.train.rows].tobytes()


@pytest.mark.parametrize(
    ("scaling", "dtype", "is_told"), [("none", "f4", True), ("standard", "f4", False), ("none", "f8", False)]
)
def test_features_that_float32_blurs_are_named(tmp_path, scaling, dtype, is_told):
    x = np.random.default_rng(3).integers(0, 60, (200, 2)) + np.array([0.0, 1.7e9])
    doubts = list(find_doubts(prepare(Data(source=write_inputs(tmp_path, x), scaling=scaling), seed=0), dtype))
    assert [doubt[:51] for doubt in doubts] == ["float32 cannot tell the values of x[:, 1] apart, 17"] * is_told


def test_targets_that_float32_blurs_are_named(tmp_path):
    y = 1.7e9 + np.arange(100) % 7
    source = str(write_npz(tmp_path / "d.npz", x=np.ones((100, 2)), y=y))
    doubts = find_doubts(prepare(Data(source=source), seed=0), "float32")
    assert any("cannot tell the values of y[:, 0] apart" in doubt for doubt in doubts)


def test_classes_that_the_split_leaves_out_are_named(tmp_path):
    y = np.array(["p"] * 50 + ["q"] * 49 + ["rare"])
    source = str(write_npz(tmp_path / "d.npz", x=np.ones((100, 2), "f4"), y=y))
    (doubt,) = find_doubts(prepare(Data(source=source), seed=0), "float32")
    assert "'rare' got no validation example" in doubt or "'rare' got no training example" in doubt
    assert not list(find_doubts(prepare(Data(source="digits"), seed=0), "float32"))


def test_targets_too_large_to_learn_are_named_with_what_to_do(tmp_path):
    numbers = np.random.default_rng(0)
    x, y = numbers.normal(size=(100, 2)), numbers.normal(2e5, 5e4, 100)
    prepared = prepare(Data(source=str(write_npz(tmp_path / "d.npz", x=x, y=y))), seed=0)
    (doubt,) = find_doubts(prepared, "float32")
    assert "the targets reach 3" in doubt
    assert "divide by 100000" in doubt
    assert advise_on_targets(prepared.train, limit=1e6) is None
