"""Data in blocks that are wrong, or change while they are trained on: one sentence, and a run that goes on later."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from block_files import draw, write_blocks, write_file
from pyarrow import parquet

from distbp import train
from distbp.errors import DataError
from distbp.run import CheckpointStore, RunDirectory

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_blocks(tmp_path / "d")


@pytest.fixture
def train_blocks(make_recipe, make_placement, folder: Path) -> Callable[..., object]:
    def run(name: str = "run", observe=None, **placement: object):
        data = {"source": str(folder), "window_blocks": 1}
        recipe = make_recipe(data=data, global_batch_size=60, epochs=3)
        return train(recipe, make_placement(memory_for_data="1kB", **placement), name=name, observe=observe)

    return run


def write_null(folder: Path) -> None:
    table = parquet.read_table(folder / "part-2.parquet")
    column = pa.array([None, *table.column("f1").to_pylist()[1:]], pa.float32())
    parquet.write_table(table.set_column(1, "f1", column), folder / "part-2.parquet")


def write_other_columns(folder: Path) -> None:
    table = parquet.read_table(folder / "part-3.parquet")
    parquet.write_table(table.rename_columns(["f0", "f1", "f2", "g3", "y"]), folder / "part-3.parquet")


def truncate(folder: Path) -> None:
    path = folder / "part-1.parquet"
    path.write_bytes(path.read_bytes()[:-30])


def write_infinity(folder: Path) -> None:
    x, y = draw()
    x[5, 2] = np.inf
    write_file(folder, "part-9", "parquet", x, y)


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (lambda folder: (folder / "part-0.parquet").write_bytes(b""), ("part-0.parquet", "is an empty file")),
        (write_other_columns, ("part-3.parquet", "no column 'f3'")),
        (write_null, ("part-2.parquet", "column 'f1'", "data row 1")),
        (truncate, ("part-1.parquet", "truncated")),
        (write_infinity, ("part-9.parquet", "column 'f2' in data row 6 is inf")),
        (lambda folder: write_file(folder, "more", "npz", *draw()), ("several kinds",)),
        (shutil.rmtree, ("does not exist",)),
    ],
)
def test_what_is_wrong_with_blocks_is_one_sentence_before_anything_is_trained(
    spoil, parts, folder, train_blocks, tmp_path
):
    spoil(folder)
    with pytest.raises(DataError) as caught:
        train_blocks()
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs" / "run").exists()


def test_a_class_that_appears_only_in_the_last_block_is_one_of_the_classes(folder, train_blocks):
    x, _ = draw()
    write_file(folder, "part-9", "parquet", x[:3], np.full(3, 99))
    assert train_blocks().steps > 0


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def write_again(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[20] ^= 255
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (Path.unlink, ("is gone since the first look",)),
        (grow, ("has changed since the first look", "bytes and has")),
        (write_again, ("has changed since the first look", "written again")),
    ],
)
def test_a_file_that_changes_while_it_is_trained_on_ends_a_run_that_goes_on_with_the_old_file(
    change, parts, folder, train_blocks, tmp_path
):
    whole = train_blocks("whole")
    kept = Path(shutil.copytree(folder, tmp_path / "kept"))

    def observe(progress) -> None:
        if progress.position.step == 4:
            for path in folder.iterdir():
                change(path)

    with pytest.raises(DataError) as caught:
        train_blocks(observe=observe, workers=1, checkpoint_every_steps=100)
    assert all(part in str(caught.value) for part in parts)
    assert "the same command resumes" in str(caught.value)
    assert CheckpointStore(RunDirectory.open(str(tmp_path / "runs" / "run")), 1).list_steps()[-1] >= 4
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    assert train_blocks().digest == whole.digest
