"""Whatever happens to the bytes of a checkpoint: it loads equal, or the older one does."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distbp.errors import CheckpointError
from distbp.installation import FORMAT
from distbp.run import CheckpointStore, RunDirectory
from distbp.run.checkpoints.manifest import SEAL
from distbp.run.storage.opening import open_folder
from distbp.text.json_text import seal

pytestmark = pytest.mark.slow

NEWEST = "checkpoints/step-00000020"
NEWER = r"was written by distbp 9\.8 \(format \d+\); this is version .*, which reads formats up to \d+; install a newer"
MANY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def two_checkpoints(run: RunDirectory, make_checkpoint) -> RunDirectory:
    store = CheckpointStore(run, keep=5)
    store.save(make_checkpoint(10))
    store.save(make_checkpoint(20))
    return run


@MANY
@given(data=st.data())
def test_damage_is_never_loaded_and_the_older_checkpoint_is(
    two_checkpoints, data, make_checkpoint, assert_equal_checkpoints
):
    folder = open_folder(f"{two_checkpoints.url}/{NEWEST}")
    name = data.draw(st.sampled_from(["manifest.json", "state.safetensors"]))
    content = folder.read(name)
    damage(folder, name, content, data)
    try:
        store = CheckpointStore(two_checkpoints, keep=5)
        latest = store.load_latest()
        assert_equal_checkpoints(latest, make_checkpoint(latest.step))
        assert latest.step == (10 if store.skipped else 20)
        if name == "state.safetensors":
            assert [text[:14] for text in store.skipped] == ["step-00000020:"]
    finally:
        folder.write(name, content, sync=False)


def damage(folder, name, content, data) -> None:
    kind = data.draw(st.sampled_from(["flip", "truncate", "delete", "extend", "empty"]))
    position = data.draw(st.integers(0, len(content) - 1))
    if kind == "delete":
        folder.remove(name)
        return
    flipped = content[position] ^ data.draw(st.integers(1, 255))
    damaged = {
        "flip": content[:position] + bytes([flipped]) + content[position + 1 :],
        "truncate": content[:position],
        "extend": content + b"\n" * (1 + position),
        "empty": b"",
    }
    folder.write(name, damaged[kind], sync=False)


def reseal(path: Path, **changes: object) -> None:
    values = {**json.loads(path.read_text()), **changes}
    del values[SEAL]
    path.write_text(json.dumps({**values, SEAL: seal(values)}))


def test_what_a_manifest_says_beyond_what_is_known_is_ignored(local_run, make_checkpoint, assert_equal_checkpoints):
    CheckpointStore(local_run, keep=5).save(make_checkpoint(10))
    reseal(local_run.folder.local_path("checkpoints") / "step-00000010" / "manifest.json", compressed=False)
    assert_equal_checkpoints(CheckpointStore(local_run, keep=5).load(10), make_checkpoint(10))


def test_a_checkpoint_of_a_newer_distbp_is_named_as_that(local_run, make_checkpoint):
    CheckpointStore(local_run, keep=5).save(make_checkpoint(10))
    reseal(
        local_run.folder.local_path("checkpoints") / "step-00000010" / "manifest.json",
        format_version=FORMAT + 1,
        distbp_version="9.8",
    )
    with pytest.raises(CheckpointError, match=NEWER):
        CheckpointStore(local_run, keep=5).load_latest()


@pytest.mark.parametrize(
    "changes",
    [{"step": None}, {"state": []}, {"format_version": None}, {"position": 3}, {"best": None}],
)
def test_sealed_nonsense_is_damage_or_another_version_and_never_a_type_error(local_run, make_checkpoint, changes):
    CheckpointStore(local_run, keep=5).save(make_checkpoint(10))
    path = local_run.folder.local_path("checkpoints") / "step-00000010" / "manifest.json"
    reseal(path, **changes)
    with pytest.raises(CheckpointError, match=r"manifest.json is damaged|\(format None\)"):
        CheckpointStore(local_run, keep=5).load(10)


def test_removed_folder_leaves_the_older_checkpoint(two_checkpoints):
    two_checkpoints.folder.remove(NEWEST)
    assert CheckpointStore(two_checkpoints, keep=5).load_latest().step == 10


def test_folder_under_another_steps_name_is_skipped(local_run, make_checkpoint):
    store = CheckpointStore(local_run, keep=5)
    store.save(make_checkpoint(10))
    checkpoints = local_run.folder.local_path("checkpoints")
    shutil.copytree(checkpoints / "step-00000010", checkpoints / "step-00000030")
    (checkpoints / "step-00000040").write_text("a file")
    assert store.load_latest().step == 10
    assert store.skipped == [
        "step-00000040: it has no manifest.json",
        "step-00000030: its manifest is that of step 10",
    ]


def test_loading_a_damaged_step_by_number_says_what_is_wrong(two_checkpoints):
    open_folder(f"{two_checkpoints.url}/{NEWEST}").write("state.safetensors", b"x")
    with pytest.raises(CheckpointError, match=r"step-00000020' is damaged: state.safetensors has 1 bytes instead of"):
        CheckpointStore(two_checkpoints, keep=5).load(20)


def test_all_damaged_is_like_none_but_told(run, make_checkpoint):
    store = CheckpointStore(run, keep=5)
    store.save(make_checkpoint(20), best=True)
    open_folder(f"{run.url}/{NEWEST}").write("state.safetensors", b"x")
    assert store.load_latest() is None
    assert len(store.skipped) == 1
    assert store.load_best() is None


WRITE_FOREVER = """
import itertools, sys
import numpy as np
from distbp.run import Checkpoint, CheckpointStore, RunDirectory
run = RunDirectory.open(sys.argv[1])
with run.lock():
    store = CheckpointStore(run, keep=2)
    latest = store.load_latest()
    first = latest.step if latest else 0  # saves the newest step again, too
    print("ready", flush=True)
    for step in itertools.count(first):
        tensors = {"w": np.full(20_000, float(step))}
        store.save(Checkpoint(step, tensors, str(step), "r", {"step": step}, {}, {}), best=step % 5 == 0)
        print(step, flush=True)
"""


@pytest.mark.slow
def test_killed_writer_leaves_only_whole_checkpoints(local_run):
    newest = -1
    for num_saves in (0, 3, 10):
        kill_writer_after(local_run.url, num_saves)
        with local_run.lock():
            store = CheckpointStore(local_run, keep=2)
            steps = store.list_steps()
            for step in steps:
                checkpoint = store.load(step)
                assert checkpoint.digest == str(step)
                assert set(checkpoint.tensors["w"]) == {float(step)}
            assert max(steps, default=-1) >= newest
            newest = max(steps, default=-1)
            assert not list(Path(local_run.url, "checkpoints").glob(".tmp-*"))
    assert newest > 0


def kill_writer_after(url: str, num_saves: int) -> None:
    """Kill it in the middle of the save after `num_saves`, or soon after that."""
    with subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, url], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        for _ in range(num_saves):
            assert process.stdout.readline()
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
