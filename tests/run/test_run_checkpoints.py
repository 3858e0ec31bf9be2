from __future__ import annotations

import errno
import json
import math

import numpy as np
import pytest
import safetensors.numpy

from distbp.errors import CheckpointError, StorageError
from distbp.run import Checkpoint, CheckpointStore


def make_with(tensors: dict, **changes: object) -> Checkpoint:
    values = {"step": 1, "digest": "d", "recipe_digest": "r", "position": {}, "data": {}, "schema": {}} | changes
    return Checkpoint(tensors=tensors, **values)


def test_saved_checkpoint_loads_equal(run, make_checkpoint, assert_equal_checkpoints):
    store = CheckpointStore(run, keep=2)
    store.save(make_checkpoint(10))
    assert_equal_checkpoints(store.load_latest(), make_checkpoint(10))
    assert_equal_checkpoints(store.load(10), make_checkpoint(10))
    assert store.load_best() is None
    assert store.skipped == []


def test_arrays_of_any_shape_and_layout_come_back(run, assert_equal_checkpoints):
    square = np.arange(12.0).reshape(3, 4)
    checkpoint = make_with(
        {
            "empty": np.zeros((0, 3), np.float32),
            "scalar": np.array(1.5),
            "transposed": square.T,
            "sliced": square[:, ::2],
            "whole numbers": np.array([2**62, -1]),
            "special": np.array([np.nan, -0.0, np.inf], np.float32),
        }
    )
    store = CheckpointStore(run, keep=1)
    store.save(checkpoint)
    assert_equal_checkpoints(store.load(1), checkpoint)


def test_state_without_tensors_loads(run, assert_equal_checkpoints):
    store = CheckpointStore(run, keep=1)
    store.save(make_with({}))
    assert_equal_checkpoints(store.load(1), make_with({}))


def test_position_comes_back_with_infinities_and_schema_with_any_text(run):
    position = {"best": math.inf, "worst": [-math.inf, 0.1], "none": None}
    schema = {"labels": ["ü", "\ud800", "NaN"], 1: {"float": "x"}}
    store = CheckpointStore(run, keep=1)
    store.save(make_with({}, position=position, schema=schema))
    loaded = store.load(1)
    assert loaded.position == position
    assert loaded.schema == {"labels": ["ü", "\ud800", "NaN"], "1": {"float": "x"}}


@pytest.mark.parametrize("dtype", ["float16", "int32", "complex64", ">f4", "U3", "object"])
def test_other_dtypes_are_refused_where_the_checkpoint_is_made(dtype):
    with pytest.raises(ValueError, match=r"tensor 'x' is .*; expected one of float32, float64, int64"):
        make_with({"x": np.zeros(2, dtype)})


def test_positions_that_are_not_json_are_refused_where_the_checkpoint_is_made():
    with pytest.raises(ValueError, match="position holds more than JSON values"):
        make_with({}, position={"x": object()})


def test_state_is_plain_safetensors(local_run, make_checkpoint):
    CheckpointStore(local_run, keep=1).save(make_checkpoint(120))
    path = local_run.folder.local_path("checkpoints") / "step-00000120" / "state.safetensors"
    tensors = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(tensors["parameters/0.weight"], np.arange(120.0, 125.0))


def test_pruning_keeps_the_newest_and_the_newest_best(run, make_checkpoint):
    store = CheckpointStore(run, keep=2)
    for step, best in [(1, True), (2, True), (3, False), (4, False), (5, False)]:
        store.save(make_checkpoint(step), best)
    assert store.list_steps() == [2, 4, 5]
    assert store.load_best().step == 2


def test_pruning_does_not_count_damaged_checkpoints(run, make_checkpoint):
    store = CheckpointStore(run, keep=2)
    for step in (1, 2):
        store.save(make_checkpoint(step))
    run.folder.child("checkpoints").child("step-00000002").write("manifest.json", b"{}")
    store.save(make_checkpoint(3))
    assert store.list_steps() == [1, 3]


def test_the_fingerprint_lies_in_the_file_where_readers_of_its_format_look(run, make_checkpoint):
    CheckpointStore(run, keep=1).save(make_checkpoint(10))
    manifest = json.loads(run.folder.child("checkpoints").child("step-00000010").read("manifest.json"))
    assert manifest["position"] == {**make_checkpoint(10).position, **make_checkpoint(10).data}
    assert "data" not in manifest


def test_a_fingerprint_is_had_without_the_tensors(run, make_checkpoint):
    store = CheckpointStore(run, keep=1)
    assert store.newest_data() is None
    store.save(make_checkpoint(10))
    store.save(make_checkpoint(20))
    assert store.newest_data() == make_checkpoint(20).data


def test_saving_a_step_again_replaces_it(run, make_checkpoint, assert_equal_checkpoints):
    store = CheckpointStore(run, keep=1)
    store.save(make_checkpoint(1), best=True)
    store.save(make_checkpoint(1, digest="other", size=9))
    assert_equal_checkpoints(store.load(1), make_checkpoint(1, digest="other", size=9))
    assert store.load_best() is None
    assert len(run.folder.child("checkpoints").child("step-00000001").names()) == 2


def test_saving_the_best_again_at_the_end_leaves_it_the_best(run, make_checkpoint):
    store = CheckpointStore(run, keep=1)
    store.save(make_checkpoint(1), best=True)
    store.save(make_checkpoint(1))
    assert store.load_best().step == 1


def test_missing_step_is_told_with_those_there_are(run, make_checkpoint):
    store = CheckpointStore(run, keep=3)
    with pytest.raises(CheckpointError, match="no checkpoint of step 7; it has: none"):
        store.load(7)
    store.save(make_checkpoint(3))
    with pytest.raises(CheckpointError, match="no checkpoint of step 7; it has: 3"):
        store.load(7)


def test_empty_run_has_no_checkpoint(run):
    store = CheckpointStore(run, keep=1)
    assert store.load_latest() is None
    assert store.load_best() is None
    assert store.list_steps() == []


def test_leftovers_are_removed_by_the_lock_holder_only(local_run):
    left = local_run.folder.local_path("checkpoints") / ".tmp-step-00000001-ab"
    left.mkdir(parents=True)
    CheckpointStore(local_run, keep=1)
    assert left.exists()
    with local_run.lock():
        CheckpointStore(local_run, keep=1)
    assert not left.exists()


def test_driver_that_lost_its_lock_saves_nothing(run, make_checkpoint):
    with run.lock() as lock:
        lock._is_lost = True
        with pytest.raises(CheckpointError, match="taken over"):
            CheckpointStore(run, keep=1).save(make_checkpoint(1))


@pytest.mark.parametrize(
    "call", ["distbp.run.checkpoints.tensors.safetensors.numpy.save_file", "distbp.machine.aside.os.fsync"]
)
@pytest.mark.parametrize("step", [1, 2])
def test_full_disk_leaves_the_older_checkpoint_and_no_rest(local_run, make_checkpoint, monkeypatch, call, step):
    store = CheckpointStore(local_run, keep=1)
    store.save(make_checkpoint(1))
    before = make_checkpoint(1).tensors
    full = []

    def fail(*_: object) -> None:
        full.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(call, fail)
        with pytest.raises(StorageError, match=r"step-0000000\d.*: no space is left; free some"):
            store.save(make_checkpoint(step, size=50))
    assert full
    assert store.list_steps() == [1]
    np.testing.assert_array_equal(store.load_latest().tensors["velocity/0.weight"], before["velocity/0.weight"])
    assert [name for name in local_run.folder.child("checkpoints").names() if name.startswith(".")] == []
    store.save(make_checkpoint(step, size=50))
    assert store.load_latest().step == step
