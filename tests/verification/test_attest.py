"""A receipt says what a run is; whatever is changed in one of them, checking finds it."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from command_line import environment_without, run_distbp

from distbp.__main__ import main
from distbp.errors import CheckpointError, ConfigError, DigestsDifferError
from distbp.nn.digests import digest
from distbp.nn.kernels import CORETYPE, DISABLED, portable_variables
from distbp.text.json_text import seal
from distbp.verification.attest import attest
from distbp.verification.check import Check, check_receipt
from distbp.verification.receipt import Receipt

pytestmark = pytest.mark.slow

ALL = 12
KEY = b"a secret of more than sixteen bytes"


@pytest.fixture
def run(train_run) -> Path:
    """A finished run of 12 steps with checkpoints of steps 3, 6, 9 and 12."""
    return Path(train_run("run").run)


def failing(check: Check) -> list[str]:
    return [claim.part for claim in check.claims if not claim.holds]


def check_all(run: Path, receipt: Receipt, **options: Any) -> Check:
    return check_receipt(str(run), receipt, num_steps=ALL, **options)


def edit_json(path: Path, change: Callable[[dict], None], seal_key: str | None = None) -> None:
    """Change a JSON file, and seal it again as whoever knows distbp's code can."""
    values = json.loads(path.read_text())
    change(values)
    if seal_key is not None:
        del values[seal_key]
        values[seal_key] = seal(values)
    path.write_text(json.dumps(values))


def edit_line(run: Path, file: str, number: int, **changes: object) -> None:
    lines = (run / file).read_text().splitlines()
    lines[number] = json.dumps({**json.loads(lines[number]), **changes})
    (run / file).write_text("\n".join(lines) + "\n")


def edit_tensor(run: Path, step: int, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change a tensor of a checkpoint so that manifest, digests and seals all fit again."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    path = folder / "state.safetensors"
    tensors = safetensors.numpy.load_file(path)
    tensors[name] = change(tensors[name])
    safetensors.numpy.save_file(tensors, path)
    names = ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
    flat = np.concatenate([tensors[f"parameters/{name}"].ravel() for name in names])

    def change_manifest(values: dict) -> None:
        values["state"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        values["digest"] = digest(flat)

    edit_json(folder / "manifest.json", change_manifest, "manifest_sha256")


def test_a_run_is_what_its_receipt_claims_also_as_a_copy(run, tmp_path):
    receipt = Receipt.decode(attest(str(run)).encode(), "receipt")
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    found = check_all(copy, receipt)
    assert found.holds, found
    assert found.replayed == tuple(range(1, ALL + 1))
    assert [*receipt.checkpoints] == ["3", "6", "9", "12"] == [*receipt.stored]


def test_steps_are_chosen_at_random(run):
    receipt = attest(str(run))
    chosen = [check_receipt(str(run), receipt, 3, chance=random.Random(seed)).replayed for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert all(len(steps) == 3 and set(steps) <= set(range(1, ALL + 1)) for steps in chosen)
    assert len(check_receipt(str(run), receipt, num_steps=99).replayed) == ALL


@pytest.mark.parametrize("field", ["run", "version", "recipe_digest", "log", "steps", "checkpoints", "result", "made"])
def test_a_receipt_that_was_changed_is_no_receipt(run, field):
    values = json.loads(attest(str(run)).encode())
    values[field] = "other"
    with pytest.raises(DigestsDifferError, match="the receipt 'r' is not as it was written: it was changed"):
        Receipt.decode(json.dumps(values).encode(), "r")


@pytest.mark.parametrize("field", [*Receipt.__dataclass_fields__])
def test_a_signed_receipt_that_was_changed_and_sealed_again_is_found_by_the_key(run, tmp_path, field):
    path = tmp_path / "receipt.json"
    path.write_bytes(attest(str(run), KEY).encode())
    assert check_all(run, Receipt.decode(path.read_bytes(), "r"), key=KEY).holds
    edit_json(
        path, lambda values: values.update({field: {} if isinstance(values[field], dict) else "0"}), "receipt_sha256"
    )
    assert "receipt" in failing(check_all(run, Receipt.decode(path.read_bytes(), "r"), key=KEY))


def test_a_receipt_of_another_key_or_none_is_not_taken_for_signed(run):
    assert failing(check_all(run, attest(str(run)), key=KEY)) == ["receipt"]
    assert failing(check_all(run, attest(str(run), b"another key of sixteen bytes"), key=KEY)) == ["receipt"]


@pytest.mark.parametrize(
    ("field", "value", "part"),
    [
        ("recipe", {"epochs": 3}, "recipe"),
        ("recipe_digest", "0" * 64, "recipe"),
        ("data", {"data": {"training": "0", "validation": None}}, "data"),
        ("numerics", {"probe": "0"}, "numerics"),
        ("steps", 13, "log"),
        ("log", "0" * 64, "log"),
        ("events", "0" * 64, "events"),
        ("result", {"digest": "0", "final_step": 12}, "result"),
        ("checkpoints", {"3": "0" * 64}, "checkpoints"),
        ("stored", {"3": "0" * 64}, "checkpoints"),
    ],
)
def test_a_receipt_that_claims_something_else_is_found_without_a_key(run, tmp_path, field, value, part):
    path = tmp_path / "receipt.json"
    path.write_bytes(attest(str(run)).encode())
    edit_json(path, lambda values: values.update({field: value}), "receipt_sha256")
    assert part in failing(check_all(run, Receipt.decode(path.read_bytes(), "r")))


TAMPERINGS = {
    "the recipe": (lambda run: _replace(run / "config.yaml", "seed: 0", "seed: 1"), "recipe"),
    "numerics": (lambda run: edit_json(run / "numerics.json", lambda v: v.update(numpy="1.0")), "numerics"),
    "a checksum": (lambda run: edit_line(run, "steps.jsonl", 4, checksum="0" * 16), "log"),
    "a loss": (lambda run: edit_line(run, "steps.jsonl", 4, loss=0.001), "log"),
    "a time": (lambda run: edit_line(run, "steps.jsonl", 4, compute_s=9.0), "log"),
    "a lost line": (lambda run: _drop_last_line(run / "steps.jsonl"), "log"),
    "an event": (lambda run: edit_line(run, "events.jsonl", 0, kind="other"), "events"),
    "the accuracy": (
        lambda run: edit_json(run / "result.json", lambda v: v.update(validation_accuracy=1.0), "result_sha256"),
        "result",
    ),
    "a parameter": (lambda run: edit_tensor(run, 6, "parameters/1.bias", lambda t: t + 1), "checkpoints"),
    "a velocity": (lambda run: edit_tensor(run, 6, "velocity/1.bias", lambda t: t + 1), "checkpoints"),
    "a missing checkpoint": (lambda run: shutil.rmtree(run / "checkpoints" / "step-00000003"), "checkpoints"),
    "a torn checkpoint": (
        lambda run: (run / "checkpoints" / "step-00000003" / "state.safetensors").write_bytes(b""),
        "checkpoints",
    ),
}


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _drop_last_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize("what", TAMPERINGS)
def test_a_run_that_was_changed_afterwards_is_found(run, what):
    receipt = attest(str(run))
    tamper, part = TAMPERINGS[what]
    tamper(run)
    found = check_all(run, receipt)
    assert part in failing(found), found


def test_a_log_that_was_made_up_before_the_receipt_is_found_by_computing_again(run):
    edit_line(run, "steps.jsonl", 4, loss=0.001)
    found = check_all(run, attest(str(run)))
    assert failing(found) == ["steps"]
    assert "step 5, computed again, gives something else" in str(found)


def test_a_checkpoint_that_was_made_up_before_the_receipt_is_found_by_computing_again(run):
    edit_tensor(run, 6, "velocity/1.bias", lambda velocity: velocity + 1)
    assert failing(check_all(run, attest(str(run)))) == ["steps"]


def test_parameters_that_were_put_in_before_the_receipt_are_found_by_computing_again(run):
    edit_tensor(run, 6, "parameters/1.bias", lambda bias: bias + 1)
    assert failing(check_all(run, attest(str(run)))) == ["steps"]


def test_an_accuracy_that_was_made_up_before_the_receipt_is_found_by_evaluating(run):
    edit_json(run / "result.json", lambda v: v.update(validation_accuracy=1.0), "result_sha256")
    found = check_all(run, attest(str(run)))
    assert failing(found) == ["accuracy"]


def test_other_data_than_those_of_the_run_are_refused(run, write_data):
    receipt = attest(str(run))
    write_data(relabelled=(7,))
    with pytest.raises(CheckpointError, match=r"the (training|validation) data in '.*toy\.npz' are not those"):
        check_all(run, receipt)


def test_an_unfinished_or_a_damaged_run_gets_no_receipt(run):
    (run / "checkpoints" / "step-00000003" / "state.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is damaged"):
        attest(str(run))
    (run / "result.json").unlink()
    with pytest.raises(CheckpointError, match="has not finished"):
        attest(str(run))


def test_the_command_writes_and_checks(run, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_bytes(KEY)
    assert main(["attest", str(run), "--key", "key", "--json"]) == 0
    written = json.loads(capfd.readouterr().out)
    assert (written["receipt"], written["steps"], written["signed"]) == ("run.receipt.json", ALL, True)
    assert main(["attest", str(run), "--check", "run.receipt.json", "--key", "key", "--steps", "2"]) == 0
    assert f"'{run}' is what 'run.receipt.json' claims" in re.sub(r"\s+", " ", capfd.readouterr().out)
    edit_line(run, "steps.jsonl", 0, loss=0.001)
    assert main(["attest", str(run), "--check", "run.receipt.json", "--json"]) == 9
    told = capfd.readouterr()
    assert not json.loads(told.out)["holds"]
    assert "is not what 'run.receipt.json' claims: log: a line of steps.jsonl was changed" in told.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--steps", "3"], 2),
        (["--check", "absent.json"], 2),
        (["--key", "short"], 2),
        (["--check", "noise"], 4),
        (["--check", "noise", "--out", "x"], 2),
    ],
)
def test_the_command_refuses_what_makes_no_sense(run, tmp_path, monkeypatch, capfd, words, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_bytes(b"short\n")
    (tmp_path / "noise").write_bytes(b"[]")
    assert main(["attest", str(run), *words]) == code
    assert capfd.readouterr().err.startswith("Error: ")


def test_a_receipt_of_a_newer_version_is_told(run):
    values = json.loads(attest(str(run)).encode())
    values |= {"receipt": 2, "written_by": {"distbp": "9.0", "format": 99}}
    with pytest.raises(CheckpointError, match=r"was written by distbp 9\.0"):
        Receipt.decode(json.dumps(values).encode(), "r")


@pytest.mark.slow
def test_another_machine_checks_a_copy_with_data_that_lie_elsewhere(run, tmp_path, write_data):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(run, elsewhere / "run")
    (elsewhere / "r.json").write_bytes(attest(str(run)).encode())
    shutil.move(write_data(), elsewhere / "data.npz")
    argv = ["attest", "run", "--check", "r.json", "--json"]
    assert run_distbp(*argv, cwd=elsewhere).returncode == 3
    done = run_distbp(*argv, "--data", "data.npz", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["same_code"]


@pytest.mark.slow
def test_a_machine_that_rounds_otherwise_says_that_it_cannot_check_the_steps(run, tmp_path):
    """The kernels that are common to all CPUs are others than this process's, or the test is skipped."""
    try:
        variables = portable_variables()
    except ConfigError as error:
        pytest.skip(str(error))
    (tmp_path / "r.json").write_bytes(attest(str(run)).encode())
    argv = ["attest", str(run), "--check", str(tmp_path / "r.json")]
    done = run_distbp(*argv, env=environment_without(CORETYPE, DISABLED) | variables)
    if done.returncode == 0:
        pytest.skip("this process has those kernels too")
    assert done.returncode == 8
    assert "so no step can be checked here; what is stored is as the receipt says" in done.stderr
