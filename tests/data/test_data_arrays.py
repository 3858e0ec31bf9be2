"""NumPy files: what is accepted, and what .npz and .npy files that cannot be used say."""

import numpy as np
import pytest
from data_files import labels, pixels, write_npy_pair, write_npz
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distbp.config import Data
from distbp.data import prepare, read_examples
from distbp.errors import DataError

NUMBERS = st.sampled_from(["?", "<i8", ">i4", "u1", "<f2", "<f4", ">f8"])


def prepare_all(source, **settings):
    return prepare(Data(source=str(source), validation=0.0, scaling="none", **settings), seed=0)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), dtype=NUMBERS, order=st.sampled_from("CF"))
def test_arrays_round_trip_in_their_own_dtype(tmp_path, data, dtype, order):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=5))
    limits = {"min_value": -100, "max_value": 100} if "f" in dtype else {}
    x = data.draw(hnp.arrays(dtype, shape, elements=hnp.from_dtype(np.dtype(dtype), **limits)))
    x, y = np.asarray(x, order=order), np.linspace(0, 1, len(x))
    for source in (write_npz(tmp_path / "d.npz", x=x, y=y), write_npy_pair(tmp_path, x, y)):
        train = prepare_all(source).train
        np.testing.assert_array_equal(train.x, x)
        np.testing.assert_array_equal(train.y, y[:, None])
        assert train.x.dtype == x.dtype


def test_targets_are_found_by_name_and_by_target(tmp_path):
    np.save(tmp_path / "small_x.npy", pixels())
    np.save(tmp_path / "small_y.npy", labels())
    np.save(tmp_path / "other.npy", labels()[::-1])
    assert prepare_all(tmp_path / "small_x.npy").train.y.tolist() == labels().tolist()
    other = prepare_all(tmp_path / "small_x.npy", target=str(tmp_path / "other.npy"))
    assert other.train.y.tolist() == labels()[::-1].tolist()
    with pytest.raises(DataError, match="has no target file; set target"):
        prepare_all(tmp_path / "other.npy")


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"images": pixels()}, "has no array x, it holds 'images'"),
        ({"x": pixels()}, "has no array y, it holds 'x'"),
        ({"x": pixels(), "y": labels(5)}, "12 examples but .* 5 targets"),
        ({"x": labels(), "y": labels()}, r"x of .* has shape \(12,\); expected \(N, I\)"),
        ({"x": pixels()[:0], "y": labels()[:0]}, "without values"),
        ({"x": np.ones((3, 2), complex), "y": labels(3)}, "dtype complex128; expected"),
        ({"x": np.full((3, 2), "a"), "y": labels(3)}, "dtype object; expected"),
        ({"x": np.full((3, 2), None), "y": labels(3)}, "pickled Python objects, which are never loaded"),
        ({"x": pixels(3), "y": np.full(3, None)}, "pickled Python objects, which are never loaded"),
        ({"x": pixels(3), "y": np.zeros((3, 2, 2))}, r"y of .* shape \(3, 2, 2\); expected"),
        ({"x": pixels(3), "y": np.zeros(3, "M8[s]")}, "y of .* dtype datetime64"),
        ({"x": pixels(3), "y": np.zeros(3, [("a", "i4")])}, "y of .* has dtype"),
    ],
)
def test_archive_that_holds_no_examples_is_one_sentence(tmp_path, arrays, sentence):
    with pytest.raises(DataError, match=sentence):
        prepare_all(write_npz(tmp_path / "d.npz", **arrays))


def test_header_larger_than_the_file_allocates_nothing(tmp_path):
    source = write_npy_pair(tmp_path, pixels(), labels())
    content = source.read_bytes()
    assert b"(12, 2, 3)" in content
    source.write_bytes(content.replace(b"(12, 2, 3), } " + b" " * 12, b"(99999999999999, 2, 3), } "))
    assert b"99999999999999" in source.read_bytes()
    with pytest.raises(DataError, match=r"announces an array of shape .* but holds 72"):
        prepare_all(source)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"x" + b, lambda b: b[:20]])
def test_npy_of_another_length_is_refused(tmp_path, change):
    source = write_npy_pair(tmp_path, pixels(), labels())
    source.write_bytes(change(source.read_bytes()))
    with pytest.raises(DataError, match=r"x\.npy"):
        prepare_all(source)


def test_images_in_fortran_order_are_refused_rather_than_copied(tmp_path):
    source = write_npy_pair(tmp_path, np.asfortranarray(pixels()), labels())
    with pytest.raises(DataError, match=r"Fortran order; save np.ascontiguousarray"):
        prepare_all(source)


def test_text_targets_become_classes(tmp_path):
    source = write_npy_pair(tmp_path, pixels(4), np.array(["b", "a", "b", "ä"]))
    prepared = prepare_all(source)
    assert prepared.schema.classes == ("a", "b", "ä")
    assert prepared.train.y.tolist() == [1, 0, 1, 2]


def test_an_archive_of_training_and_test_arrays_has_both_parts(tmp_path):
    x, y = pixels(12).astype(np.float32), labels(12)
    path = str(write_npz(tmp_path / "d.npz", x_train=x[:8], y_train=y[:8], x_test=x[8:], y_test=y[8:]))
    prepared = prepare(Data(source=path, validation=path), seed=0)
    assert (len(prepared.train), len(prepared.validation)) == (8, 4)
    np.testing.assert_array_equal(prepared.validation.x, x[8:].reshape(4, -1))
    np.testing.assert_array_equal(read_examples(prepared.schema, path).x, x[8:].reshape(4, -1))


def test_an_archive_without_test_arrays_is_no_validation_data_of_its_own(tmp_path):
    path = str(write_npz(tmp_path / "d.npz", x_train=pixels(12), y_train=labels(12)))
    assert len(prepare(Data(source=path, validation=0.0), seed=0).train) == 12
    with pytest.raises(DataError, match="is the training data itself"):
        prepare(Data(source=path, validation=path), seed=0)
