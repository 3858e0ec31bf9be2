"""What targets mean: the task, the classes, and when a DataError asks back."""

import numpy as np
import pytest
from data_files import write_npz

from distbp.config import Data, Recipe
from distbp.data import prepare
from distbp.errors import ConfigError, DataError
from distbp.training.plan import model_spec


def prepare_targets(folder, y, task=None):
    y = np.asarray(y)
    path = write_npz(folder / "d.npz", x=np.ones((len(y), 2), np.uint8), y=y)
    return prepare(Data(source=str(path), validation=0.0, task=task), seed=0)


@pytest.mark.parametrize(
    ("y", "task", "classes"),
    [
        (["b", "a", "b"], None, ("a", "b")),
        (["10", "9", "9"], None, ("10", "9")),
        ([10, 9, 9], None, (9, 10)),
        ([[10], [9], [9]], None, (9, 10)),
        ([True, False, True], None, (False, True)),
        ([2.0, -1.0, 2.0], "classification", (-1, 2)),
        (np.array([2**63, 0, 5], np.uint64), None, (0, 5, 2**63)),
    ],
)
def test_classes_are_the_sorted_labels(tmp_path, y, task, classes):
    prepared = prepare_targets(tmp_path, y, task)
    assert prepared.schema.classes == classes
    assert [type(label) for label in prepared.schema.classes] == [type(label) for label in classes]
    assert prepared.schema.num_outputs == len(classes)
    assert [classes[number] for number in prepared.train.y] == np.ravel(y).tolist()


@pytest.mark.parametrize(
    ("y", "task"), [([0.5, 1.5], None), ([1.0, 2.0], None), ([1, 2], "regression"), ([[1, 2], [3, 4]], None)]
)
def test_numbers_that_measure_are_regression(tmp_path, y, task):
    prepared = prepare_targets(tmp_path, y, task)
    assert prepared.schema.task == "regression"
    assert prepared.schema.classes is None
    assert prepared.train.y.dtype == np.float64
    assert prepared.train.y.tolist() == np.reshape(np.array(y, float), (2, -1)).tolist()


@pytest.mark.parametrize(
    ("y", "task", "sentence"),
    [
        (["a", "a"], None, "every target of .* is 'a'; classification needs at least 2 classes"),
        (["a", "b"], "regression", "are text such as 'a'; regression needs numbers"),
        ([0.5, 1.0], "classification", r"y\[0\] of .* is 0.5; class labels are whole numbers"),
        ([[0.0, 1.0], [1.0, 0.0]], "classification", "has 2 targets per example; classification needs one label"),
        ([1.0, np.nan], "classification", r"y\[1\] is nan"),
        ([[1.0, np.inf], [1.0, 2.0]], None, r"y\[0, 1\] is inf"),
        (np.arange(100), None, "100 different labels in 100 examples.* task: regression"),
        ([f"name {i}" for i in range(100)], None, "100 different labels in 100 examples.* name another target"),
    ],
)
def test_targets_that_do_not_fit_are_one_sentence(tmp_path, y, task, sentence):
    with pytest.raises(DataError, match=sentence):
        prepare_targets(tmp_path, y, task)


def test_many_classes_are_accepted_when_asked_for(tmp_path):
    assert prepare_targets(tmp_path, np.arange(100), "classification").schema.num_outputs == 100


def test_whole_numbers_in_rows_are_sequences_of_classes(tmp_path):
    prepared = prepare_targets(tmp_path, [[0, 4, -100], [1, 0, 2]], "classification")
    assert prepared.schema.target_shape == (3,)
    assert prepared.schema.classes == (0, 1, 2, 3, 4)
    assert prepared.train.y.tolist() == [[0, 4, -100], [1, 0, 2]]
    with pytest.raises(ConfigError, match=r"sequence of 3 classes, which the built-in network does not learn.*one-hot"):
        model_spec(Recipe(), prepared.schema)


@pytest.mark.parametrize(
    ("y", "sentence"),
    [
        ([[0, -1], [1, 0]], r"y\[0, 1\] of .* is -1; the classes of a sequence are numbers from 0 on, or -100"),
        ([[0, 1], [-100, -100]], r"every class of y\[1\] of .* is -100, so there is nothing to learn from it"),
    ],
)
def test_sequences_that_cannot_be_learned_are_one_sentence(tmp_path, y, sentence):
    with pytest.raises(DataError, match=sentence):
        prepare_targets(tmp_path, y, "classification")
