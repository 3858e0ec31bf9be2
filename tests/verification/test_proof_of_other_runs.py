"""verify --deep and attest, of a PyTorch module with buffers, and of a run that 0.1.0 wrote."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from distbp import Placement, Recipe, Result, train, verify
from distbp.errors import NumericsError
from distbp.verification.attest import attest
from distbp.verification.check import check_receipt
from distbp.verification.deep import find_parting

RELEASED = Path(__file__).parents[1] / "released" / "0.1.0"


def build(num_inputs: int, num_outputs: int, dropout: float = 0.1):
    """A network with dropout and batch normalisation, as model.torch names it."""
    from torch import nn

    return nn.Sequential(
        nn.Linear(num_inputs, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(dropout), nn.Linear(6, num_outputs)
    )


@pytest.fixture
def train_module(tmp_path, write_data):
    def call(name: str, **options: object) -> Result:
        pytest.importorskip("torch")
        values = {
            "data": {"source": str(write_data())},
            "model": {"torch": "test_proof_of_other_runs:build", "options": options},
            "global_batch_size": 100,
            "microbatch_size": 20,
            "epochs": 2,
        }
        return train(Recipe.model_validate(values), Placement(storage=str(tmp_path / "runs")), name=name)

    return call


@pytest.mark.slow
def test_a_module_is_what_its_receipt_claims(train_module):
    run = train_module("a").run
    found = check_receipt(run, attest(run), num_steps=99)
    assert found.holds, found
    assert len(found.replayed) == 6


@pytest.mark.slow
def test_modules_part_in_a_microbatch(train_module):
    a, b = train_module("a").run, train_module("b", dropout=0.5).run
    assert verify(a, b).first_difference == 1
    found = find_parting(a, b, 1)
    assert (found.kind, found.microbatch, found.num_microbatches) == ("microbatch", 0, 5)
    assert (found.matches_a, found.matches_b) == (True, True)


def test_a_run_of_the_first_version_gets_a_receipt(tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(RELEASED, tmp_path / "0.1.0"))
    receipt = attest("runs/finished")
    assert receipt.steps == 24
    log = Path("runs/finished/steps.jsonl")
    with suppress(NumericsError):  # this may be another kind of CPU than that of then
        assert check_receipt("runs/finished", receipt, num_steps=2).holds
    log.write_text(log.read_text().replace('"epoch": 1', '"epoch": 2', 1))
    assert not check_receipt("runs/finished", receipt, num_steps=2).holds
