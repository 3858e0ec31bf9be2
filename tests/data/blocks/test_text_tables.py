"""Text tables of all spellings in folders: with tabs, and gzipped."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from distbp.config import Data
from distbp.data import prepare
from distbp.data.blocks.look import Question, look_at
from distbp.errors import DataError

NUM_FILES, NUM_ROWS = 3, 40


def write(folder: Path, suffix: str) -> str:
    """The same rows in files of any spelling."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(NUM_FILES):
        rows = [
            ["a", "b", "y"],
            *([f"{a:.3f}", f"{b:.3f}", "xy"[int(a > b)]] for a, b in rng.normal(size=(NUM_ROWS, 2))),
        ]
        text = "\n".join(("\t" if "tsv" in suffix else ",").join(row) for row in rows).encode() + b"\n"
        (folder / f"{number}{suffix}").write_bytes(gzip.compress(text) if suffix.lower().endswith("gz") else text)
    return str(folder)


def hold(source: str) -> tuple[np.ndarray, np.ndarray]:
    train = prepare(Data(source=source, validation=0.0), 0).train.hold()
    return train.x, train.y


@pytest.mark.parametrize("suffix", [".tsv", ".csv.gz", ".tsv.gz", ".CSV.GZ"])
def test_all_spellings_are_the_same_examples(tmp_path, suffix):
    expected = hold(write(tmp_path / "plain", ".csv"))
    source = write(tmp_path / "other", suffix)
    for one, two in zip(hold(source), expected, strict=True):
        assert np.array_equal(one, two)
    assert len(look_at(Question(f"{source}/*")).blocks) == NUM_FILES


def test_a_gzipped_file_of_several_members_is_read_to_its_end(tmp_path):
    source = write(tmp_path / "d", ".csv.gz")
    path = tmp_path / "d" / "1.csv.gz"
    path.write_bytes(path.read_bytes() + gzip.compress(b"1,2,x\n"))
    assert look_at(Question(source)).num_rows == NUM_FILES * NUM_ROWS + 1


@pytest.mark.parametrize("damage", ["cut", "no gzip"])
def test_a_damaged_gzipped_file_is_one_sentence_that_names_it(tmp_path, damage):
    source = write(tmp_path / "d", ".csv.gz")
    path = tmp_path / "d" / "1.csv.gz"
    content = path.read_bytes()
    spoilt = {"cut": content[:-20], "no gzip": b"a,b,y\n1,2,x\n"}
    path.write_bytes(spoilt[damage])
    with pytest.raises(DataError, match=r"1\.csv\.gz'") as caught:
        look_at(Question(source))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_part_with_a_header_only_adds_no_block(tmp_path, suffix):
    source = write(tmp_path / "d", suffix)
    path = tmp_path / "d" / f"1{suffix}"
    path.write_bytes(gzip.compress(b"a,b,y\n") if suffix.endswith("gz") else b"a,b,y\n")
    look = look_at(Question(source))
    assert (look.num_rows, [facts.block.file for facts in look.blocks]) == ((NUM_FILES - 1) * NUM_ROWS, [0, 2])


def test_rows_in_another_member_than_the_header_are_read(tmp_path):
    (tmp_path / "1.csv.gz").write_bytes(gzip.compress(b"a,b,y\n") + gzip.compress(b"1,2,x\n3,4,y\n"))
    assert look_at(Question(str(tmp_path))).num_rows == 2


def test_headers_alone_are_no_data(tmp_path):
    (tmp_path / "1.csv.gz").write_bytes(gzip.compress(b"a,b,y\n"))
    with pytest.raises(DataError, match="has columns but no rows"):
        look_at(Question(str(tmp_path)))
