"""verify() of runs in rounds: it names the round in which they part, and the replica."""

from __future__ import annotations

import json
from pathlib import Path

from distbp import verify
from distbp.cli.tables import describe_difference


def spoil(run: str, step: int, replica: int | None) -> None:
    """Change what a run logged of a step: the checksum, and that of one replica."""
    path = Path(run) / "steps.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[step - 1]["checksum"] = "0" * 16
    if replica is not None:
        records[step - 1]["replicas"][replica] = "f" * 16
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_runs_in_rounds_are_the_same_whatever_carried_them_out(train_toy):
    verdict = verify(train_toy("a", workers=1).run, train_toy("b", workers=5).run)
    assert (verdict.same, verdict.steps, verdict.round) == (True, 15, None)


def test_the_replica_that_differs_first_is_named_with_its_step_and_round(train_toy):
    a, b = train_toy("a").run, train_toy("b").run
    spoil(b, 8, replica=2)
    verdict = verify(a, b)
    assert verdict.first_difference == 8
    assert (verdict.round.first_step, verdict.round.last_step, verdict.round.replica) == (8, 9, 2)
    assert "they part at step 8, in replica 2 of the round of steps 8 to 9;" in describe_difference(a, b, verdict)


def test_a_commit_that_differs_is_told_apart_from_its_replicas(train_toy):
    a, b = train_toy("a").run, train_toy("b").run
    spoil(b, 10, replica=None)
    verdict = verify(a, b)
    assert (verdict.round.first_step, verdict.round.last_step, verdict.round.replica) == (10, 10, None)
    assert "in the commit of the round of steps 10 to 10" in describe_difference(a, b, verdict)


def test_a_real_difference_between_two_rounds_is_found(train_toy, make_recipe):
    """The learning rates are equal in the first epoch, steps 1 to 5, and differ from step 6 on."""
    decaying = make_recipe(schedule={"kind": "step", "decay_epochs": 1, "decay_factor": 0.5})
    verdict = verify(train_toy("a").run, train_toy("b", recipe=decaying).run)
    assert (verdict.first_difference, verdict.round.first_step, verdict.round.replica) == (6, 6, 0)


def test_single_steps_and_rounds_part_in_no_round(train_toy, make_recipe):
    verdict = verify(train_toy("a").run, train_toy("b", recipe=make_recipe(rounds={})).run)
    assert (verdict.same, verdict.round) == (False, None)
