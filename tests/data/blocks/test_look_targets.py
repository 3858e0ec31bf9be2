"""What a look says of targets that its blocks show in different ways, or in great numbers."""

from __future__ import annotations

import numpy as np
import pytest

from distbp.config import Data
from distbp.data import prepare, read_examples
from distbp.data.blocks.look import Question, look_at
from distbp.errors import DataError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own-cache"))


@pytest.mark.parametrize("is_whole_first", [True, False])
@pytest.mark.parametrize("validation", [0.0, 0.3])
def test_scaled_targets_are_measured_in_every_block_whatever_each_looks_like(tmp_path, is_whole_first, validation):
    whole, broken = [*range(100, 150)], [number / 4 + 0.1 for number in range(30)]
    for number, targets in enumerate((whole, broken) if is_whole_first else (broken, whole)):
        rows = "".join(f"{row},{target}\n" for row, target in enumerate(targets))
        (tmp_path / f"{number}.csv").write_text(f"a,y\n{rows}")
    found = prepare(Data(source=str(tmp_path), target_scaling="standard", validation=validation), 0)
    assert found.schema.task == "regression"
    held = found.train.hold()
    np.testing.assert_allclose(held.targets.shift, held.y.mean(0), rtol=1e-12)
    np.testing.assert_allclose(held.targets.scale, 1 / held.y.std(0), rtol=1e-12)


def test_classes_that_are_numbers_have_no_statistics(tmp_path):
    np.savez(tmp_path / "1.npz", x=np.ones((8, 2)), y=np.arange(8) % 2)
    look = look_at(Question(str(tmp_path)))
    assert (look.task, look.targets) == ("classification", None)


def test_sequences_may_have_more_classes_than_labels_can(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    y = np.arange(100_000).reshape(-1, 4)
    np.savez(folder / "1.npz", x=np.zeros((len(y), 2), np.uint8), y=y)
    values = {"task": "classification", "scaling": "none"}
    alone, found = (prepare(Data(source=str(path), **values), 0) for path in (folder / "1.npz", folder))
    assert found.schema == alone.schema
    assert found.schema.num_outputs == 100_000
    assert len(read_examples(found.schema, str(folder))) == len(y)


def test_labels_of_as_many_classes_are_refused(tmp_path):
    np.savez(tmp_path / "1.npz", x=np.zeros((70_000, 1), np.uint8), y=np.arange(70_000))
    with pytest.raises(DataError, match="more than 65536 different labels"):
        look_at(Question(str(tmp_path), task="classification"))
