"""IDX files: round trips, the real Fashion-MNIST, and what damaged or mixed-up files say."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from data_files import IDX_CODES, labels, pixels, write_idx, write_idx_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distbp.config import Data
from distbp.data import prepare
from distbp.data.idx import read_idx
from distbp.errors import DataError

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="Debian package dataset-fashion-mnist is not installed")
def test_fashion_mnist_is_read_as_published():
    prepared = prepare(Data(source=str(FASHION_MNIST), validation=str(FASHION_MNIST), scaling="none"), seed=0)
    train, held_out = prepared.train, prepared.validation
    assert (train.x.shape, held_out.x.shape) == ((60_000, 784), (10_000, 784))
    assert train.y[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert held_out.y[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert np.bincount(train.y).tolist() == [6_000] * 10
    assert round(train.x.mean() / 255, 4) == 0.2860  # as normalisation constants for it are quoted


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), code=st.sampled_from(sorted(IDX_CODES)), is_packed=st.booleans())
def test_idx_round_trip_keeps_values_and_shape(tmp_path, data, code, is_packed):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4))
    array = data.draw(hnp.arrays(np.dtype(code), shape))
    found = read_idx(write_idx(tmp_path / ("a-idx" + ".gz" * is_packed), array))
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images.idx3-ubyte.gz"])
def test_both_spellings_of_file_names_are_found(tmp_path, name):
    write_idx(tmp_path / name, pixels())
    write_idx(tmp_path / name.replace("images", "labels").replace("idx3", "idx1"), labels())
    for source in (tmp_path, tmp_path / name):
        assert prepare(Data(source=str(source)), seed=0).schema.input_shape == (2, 3)


def test_single_image_file_takes_its_labels_from_target(tmp_path):
    write_idx(tmp_path / "some.idx", pixels())
    write_idx(tmp_path / "answers", labels())
    data = Data(source=str(tmp_path / "some.idx"), target=str(tmp_path / "answers"), validation=0.0)
    assert prepare(data, seed=0).train.y.tolist() == labels().tolist()
    with pytest.raises(DataError, match="has no label file; set target"):
        prepare(data.model_copy(update={"target": None}), seed=0)


def header(*sizes: int, code: int = 0x08) -> bytes:
    return struct.pack(f">BBBB{len(sizes)}I", 0, 0, code, len(sizes), *sizes)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is an empty file"),
        (b"\x89PNG", "starts with 89 50 4e 47; expected an IDX file"),
        (header(3, code=0x77) + b"abc", "expected an IDX file"),
        (header(3, 2, 3)[:9], "ends inside its header"),
        (header(3, 2, 3) + b"12345", "announces"),
        (header(1) + b"12", "goes on after the 1 bytes"),
        (header(2**32 - 1, 2**32 - 1, 2**32 - 1), "announces"),
    ],
)
def test_damaged_file_is_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_idx(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (gzip.compress(header(9, 9, 9) + bytes(729))[:-20], "is not an IDX file"),
        (gzip.compress(header(9, 9, 9) + bytes(728)), "ends after 728 of the 729 bytes"),
        (gzip.compress(header(2**31, 2**31)), "announces"),
        (b"not gzip at all", "is not an IDX file, or a damaged one"),
    ],
)
def test_damaged_gzip_is_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_idx(path)


def test_folder_without_the_files_says_what_it_holds(tmp_path):
    (tmp_path / "readme").touch()
    with pytest.raises(DataError, match=r"has no train-images-idx3-ubyte or .*holds 'readme'"):
        prepare(Data(source=str(tmp_path)), seed=0)


def test_images_and_labels_swapped_are_recognised(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", labels())
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels())
    with pytest.raises(DataError, match="is a label file; expected images"):
        prepare(Data(source=str(tmp_path)), seed=0)
    write_idx(tmp_path / "train-images-idx3-ubyte", pixels())
    write_idx(tmp_path / "train-labels-idx1-ubyte", pixels())
    with pytest.raises(DataError, match="is an image file; expected labels"):
        prepare(Data(source=str(tmp_path)), seed=0)


def test_counts_that_differ_are_both_named(tmp_path):
    folder = write_idx_folder(tmp_path)
    write_idx(folder / "train-labels-idx1-ubyte.gz", labels(11))
    with pytest.raises(DataError, match=r"12 examples but .* 11 targets"):
        prepare(Data(source=str(folder)), seed=0)
