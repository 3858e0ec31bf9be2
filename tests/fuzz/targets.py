"""What is tried with a spoilt file, and what may come of it: the right thing, or one of distbp's own errors.

A case writes nothing outside its folder. Everything else that happens is a finding: an exception of another kind, an
error of several lines, something wrong that was loaded, a hang, code that ran from the file.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mutations import mutate
from samples import CONFIGS, DataSample, RunSample, make_data_samples, make_run_sample

from distbp import Placement, load_run, train
from distbp.cli.failures import explain
from distbp.config import Config, Data, load_config
from distbp.data import prepare
from distbp.errors import DistbpError
from distbp.run import CheckpointStore, RunDirectory, StepLog
from distbp.run.checkpoints.manifest import SEAL
from distbp.run.owner import LockOwner
from distbp.text.json_text import seal

Case = Callable[[random.Random, Path], None]


class WrongLoadError(AssertionError):
    """Something that was damaged was loaded as if it were whole."""


@dataclass(frozen=True)
class Target:
    """A kind of file. share: of all cases."""

    name: str
    share: float
    try_case: Case


def make_targets(folder: Path) -> list[Target]:
    data, run = make_data_samples(folder / "data"), make_run_sample(folder / "run")
    return [
        Target("configuration", 0.3, _try_config),
        Target("data", 0.25, lambda rng, work: _try_data(data, rng, work)),
        Target("checkpoint", 0.15, lambda rng, work: _try_checkpoint(run, rng, work)),
        Target("resealed manifest", 0.1, lambda rng, work: _try_resealed(run, rng, work)),
        Target("logs and lock", 0.1, lambda rng, work: _try_logs(run, rng, work)),
        Target("run", 0.1, lambda rng, work: _try_run(run, rng, work)),
    ]


def _try_config(rng: random.Random, work: Path) -> None:
    path = work / "config.yaml"
    content = mutate(rng, rng.choice(CONFIGS))
    path.write_bytes(content)
    try:
        config = load_config(path)
    except DistbpError as error:
        _check_sentence(error)
    else:
        assert isinstance(config, Config)
        assert Config.model_validate(config.model_dump()) == config
    try:
        load_config(None, [content.decode("utf-8", "replace")[: rng.randint(0, 80)]])
    except DistbpError as error:
        _check_sentence(error)


def _try_data(samples: list[DataSample], rng: random.Random, work: Path) -> None:
    sample = rng.choice(samples)
    victim = rng.choice(sorted(sample.files))
    for name, content in sample.files.items():
        path = work / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(mutate(rng, content) if name == victim else content)
    target = str(work / sample.target) if str(sample.target).endswith(".npy") else sample.target
    data = Data(source=str(work / sample.source), target=target, validation=rng.choice((0.2, 0.0)))
    try:
        prepared = prepare(data, 0)
    except DistbpError as error:
        _check_sentence(error)
        return
    assert prepared.train.x.ndim == 2
    assert len(prepared.train.x) == len(prepared.train.y)
    assert np.isfinite(prepared.train.x).all()
    assert prepared.schema.num_inputs == prepared.train.x.shape[1]


def _try_checkpoint(sample: RunSample, rng: random.Random, work: Path) -> None:
    """Spoil one or two files of the newest checkpoints: what is loaded is to the bit what was saved."""
    run_dir = _copy_run(sample, work)
    files = sorted((run_dir / "checkpoints").glob("step-0000000[345]/*"))
    for path in rng.sample(files, rng.choice((1, 1, 2))):
        _spoil(rng, path)
    store = CheckpointStore(RunDirectory.open(str(run_dir)), keep=9)
    pristine = CheckpointStore(RunDirectory.open(str(sample.run_dir)), keep=9)
    try:
        found = store.load_latest()
    except DistbpError as error:
        _check_sentence(error)
        return
    assert found is not None
    assert all("\n" not in reason for reason in store.skipped)
    original = pristine.load(found.step)
    same = {name: array.tobytes() for name, array in found.tensors.items()} == {
        name: array.tobytes() for name, array in original.tensors.items()
    }
    if not same or replace(found, tensors={}).__dict__ != replace(original, tensors={}).__dict__:
        raise WrongLoadError(f"step {found.step} is not what was saved")


def _try_resealed(sample: RunSample, rng: random.Random, work: Path) -> None:
    """Spoil values in a manifest, or its state, and seal it again: nobody's accident, but no reason to fall over."""
    run_dir = _copy_run(sample, work)
    folder = run_dir / "checkpoints" / "step-00000005"
    manifest_path, state_path = folder / "manifest.json", folder / "state.safetensors"
    values = json.loads(manifest_path.read_bytes())
    if rng.random() < 0.5:
        _spoil(rng, state_path)
        content = state_path.read_bytes() if state_path.is_file() else b""
        values["state"] |= {"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    else:
        _spoil_values(rng, values)
    values.pop(SEAL, None)
    manifest_path.write_text(json.dumps({**values, SEAL: seal(values)}))
    with suppress(WrongLoadError):  # whoever can seal can forge
        _use_run(sample, rng, work)


def _try_logs(sample: RunSample, rng: random.Random, work: Path) -> None:
    run_dir = _copy_run(sample, work)
    for name in ("steps.jsonl", "events.jsonl"):
        _spoil(rng, run_dir / name)
    run = RunDirectory.open(str(run_dir))
    for read in (run.read_steps, run.read_events):
        try:
            records = read()
        except DistbpError as error:
            _check_sentence(error)
        else:
            assert isinstance(records, list)
    StepLog(run, from_step=rng.randint(0, 7)).close()
    lock = LockOwner.of_this_process()
    owner = LockOwner.decode(mutate(rng, lock.encode()))
    if owner is not None:
        owner.examine(lock)
        owner.describe(lock)


def _try_run(sample: RunSample, rng: random.Random, work: Path) -> None:
    """Spoil any file of a run but its lock, then use the run."""
    run_dir = _copy_run(sample, work)
    files = sorted(path for path in run_dir.rglob("*") if path.is_file())
    _spoil(rng, rng.choice(files))
    _use_run(sample, rng, work)


def _use_run(sample: RunSample, rng: random.Random, work: Path) -> None:
    try:
        if rng.random() < 0.5:
            result = train(sample.recipe, Placement(storage=str(work), workers=1), name="run", resume="auto")
            if result.digest != sample.digest:
                raise WrongLoadError(f"the resumed run ended with {result.digest}, the undisturbed one {sample.digest}")
            return
        trained = load_run(str(work / "run"))
        if trained.evaluate().loss != sample.evaluations.get(trained.step):
            raise WrongLoadError(f"the network of step {trained.step} says other things than the one that was saved")
    except DistbpError as error:
        _check_sentence(error)


def _copy_run(sample: RunSample, work: Path) -> Path:
    return Path(shutil.copytree(sample.run_dir, work / "run"))


def _spoil(rng: random.Random, path: Path) -> None:
    if rng.random() < 0.05:
        path.unlink()
    else:
        path.write_bytes(mutate(rng, path.read_bytes()))


def _spoil_values(rng: random.Random, values: dict) -> None:
    """Replace, remove or add a value somewhere in a JSON object."""
    odd = [None, -1, 10**30, 1.5, float("nan"), True, "", "x" * 300, [], {}, [[]], {"float": "NaN"}, "../../../etc"]
    inner = [value for value in values.values() if isinstance(value, dict) and value]
    place = rng.choice([values, *inner])
    key = rng.choice(sorted(place))
    if rng.random() < 0.2:
        del place[key]
    else:
        place[rng.choice((key, key, key, "unknown"))] = rng.choice(odd)


def _check_sentence(error: DistbpError) -> None:
    """What the command line would print is one line, not empty and not a flood."""
    message = explain(error).message
    assert message.strip(), "an error without a sentence"
    assert "\n" not in message
    assert len(message) < 2000, f"an error of {len(message)} characters"
