"""Is a run what its receipt claims? What is stored is compared part by part, then random steps are computed again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from distbp.config import Recipe
from distbp.errors import CheckpointError, ConfigError, DataError, NumericsError
from distbp.nn.digests import checksum, digest
from distbp.nn.numerics import describe_kernels, is_same_arithmetic, list_kernels
from distbp.protocol.messages import StepReport
from distbp.run import CheckpointStore, RunDirectory
from distbp.run.records import StepRecord
from distbp.verification.attest import hash_stored, list_digests, read_result
from distbp.verification.receipt import Receipt, describe_code, hash_records
from distbp.verification.replay import Replay, Walk

NUM_STEPS = 10

Compare = Callable[[RunDirectory, Receipt], str | None]
"""Returns what is wrong with a stored part, None if nothing is."""


@dataclass(frozen=True)
class Claim:
    """One part of what a receipt says. holds: whether the run bears it out. words: what was found, or what is wrong."""

    part: str
    holds: bool
    words: str


@dataclass(frozen=True)
class Check:
    """What checking a receipt found. replayed: the steps that were chosen and computed again."""

    claims: tuple[Claim, ...]
    replayed: tuple[int, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the run is what the receipt claims, as far as was looked."""
        return all(claim.holds for claim in self.claims)


def check_receipt(
    url: str,
    receipt: Receipt,
    num_steps: int = NUM_STEPS,
    key: bytes | None = None,
    source: str | None = None,
    chance: random.Random | None = None,
) -> Check:
    """Compare a run with a receipt. num_steps: how many steps, chosen at random, to compute again; all at most.

    key: that the receipt must be signed with. source: where the run's data lie on this machine, if elsewhere. chance:
    what chooses the steps; by default, what nobody can foresee. Where a stored part differs, no step is computed.

    Raises NumericsError if this machine computes other bits than the run's, so that no step can be computed again.
    """
    run = RunDirectory.open(url)
    stored = (_check_signature(receipt, key), *(_look(part, compare, run, receipt) for part, compare in _STORED))
    if not all(claim.holds for claim in stored):
        return Check(stored)
    replay = Replay(run, source)
    _expect_same_arithmetic(replay, receipt)
    chosen = _choose(receipt, num_steps, chance or random.SystemRandom())
    return Check((*stored, _check_steps(replay, receipt, chosen), _check_accuracy(replay)), chosen)


def _check_signature(receipt: Receipt, key: bytes | None) -> Claim:
    if key is None:
        is_signed = receipt.signature is not None
        words = "signed, which only --key can check" if is_signed else "not signed, so who made it is not known"
        return Claim("receipt", True, words)
    holds = receipt.is_signed_with(key)
    return Claim("receipt", holds, "signed with this key" if holds else "not signed with this key")


def _look(part: str, compare: Compare, run: RunDirectory, receipt: Receipt) -> Claim:
    """Return whether a stored part is as the receipt says."""
    try:
        wrong = compare(run, receipt)
    except (CheckpointError, ConfigError, DataError) as error:
        wrong = str(error)
    return Claim(part, wrong is None, wrong or "as the receipt says")


def _compare_recipe(run: RunDirectory, receipt: Receipt) -> str | None:
    try:
        told = Recipe.model_validate(dict(receipt.recipe)).digest
    except ValueError:
        return "the recipe in the receipt is none"
    if told != receipt.recipe_digest:
        return "the recipe in the receipt is not the one whose digest it names"
    return None if run.read_config().recipe.digest == told else "config.yaml has another recipe"


def _compare_data(run: RunDirectory, receipt: Receipt) -> str | None:
    stored = CheckpointStore(run, keep=1).newest_data()
    return None if stored == receipt.data else "the checkpoints name other data"


def _compare_numerics(run: RunDirectory, receipt: Receipt) -> str | None:
    return None if run.read_numerics() == receipt.numerics else "numerics.json says something else"


def _compare_log(run: RunDirectory, receipt: Receipt) -> str | None:
    steps = run.read_steps()
    if len(steps) != receipt.steps:
        return f"steps.jsonl has {len(steps)} steps, the receipt {receipt.steps}"
    return None if hash_records(steps) == receipt.log else "a line of steps.jsonl was changed"


def _compare_events(run: RunDirectory, receipt: Receipt) -> str | None:
    return None if hash_records(run.read_events()) == receipt.events else "events.jsonl was changed"


def _compare_result(run: RunDirectory, receipt: Receipt) -> str | None:
    result = read_result(run)
    if result != receipt.result:
        return "result.json says something else"
    final = receipt.checkpoints.get(str(result.get("final_step")))
    return None if final == result.get("digest") else "its digest is not that of the checkpoint of its final step"


def _compare_checkpoints(run: RunDirectory, receipt: Receipt) -> str | None:
    """Return what is wrong with a checkpoint: its content, its digest, or the line of the log of the same step."""
    found = hash_stored(run)
    for step in sorted({*found, *receipt.stored}, key=int):
        if found.get(step) != receipt.stored.get(step):
            kind = "is missing" if step not in found else "was changed" if step in receipt.stored else "is new"
            return f"the checkpoint of step {step} {kind}"
    return None if list_digests(run) == receipt.checkpoints else "a checkpoint has another digest"


_STORED = (
    ("recipe", _compare_recipe),
    ("data", _compare_data),
    ("numerics", _compare_numerics),
    ("log", _compare_log),
    ("events", _compare_events),
    ("result", _compare_result),
    ("checkpoints", _compare_checkpoints),
)


def _expect_same_arithmetic(replay: Replay, receipt: Receipt) -> None:
    if not is_same_arithmetic(receipt.numerics, replay.plan.worker.model):
        raise NumericsError(
            f"this machine computes other floating-point results than '{replay.run.url}' was computed with (then "
            f"{describe_kernels(receipt.numerics)}, now {describe_kernels(list_kernels())}), so no step can be "
            "checked here; what is stored is as the receipt says; check the steps on a machine with those kernels"
        )


def _choose(receipt: Receipt, num_steps: int, chance: random.Random) -> tuple[int, ...]:
    last = int(receipt.result["steps"])
    return tuple(sorted(chance.sample(range(1, last + 1), min(num_steps, last))))


def _check_steps(replay: Replay, receipt: Receipt, chosen: Sequence[int]) -> Claim:
    """Compute the chosen steps, and those on the way to them, and compare each with its line of the log."""
    num_computed = 0
    for starts_at, steps in _group_by_start(replay, chosen):
        for wrong in _recompute(replay, receipt, starts_at, steps):
            if wrong is not None:
                return Claim("steps", False, wrong)
            num_computed += 1
    words = f"{len(chosen)} chosen at random, {num_computed} computed again on the way, all the same"
    return Claim("steps", True, words)


def _recompute(replay: Replay, receipt: Receipt, starts_at: int, steps: Sequence[int]) -> Iterator[str | None]:
    """Yield, for each step from `starts_at` through all of `steps`, what is wrong with it; None if nothing is."""
    records = {record.step: record for record in replay.run.read_steps()}
    first = replay.load(starts_at) if starts_at else replay.plan.initial_state()
    if starts_at in records and records[starts_at].checksum != f"{checksum(first.parameters):016x}":
        yield f"the log of step {starts_at} does not fit the checkpoint of that step"
    with Walk(replay.plan, first) as walk:
        for report in walk.to(max(steps)):
            is_same = _is_as_logged(report, records.get(report.step))
            yield None if is_same else f"step {report.step}, computed again, gives something else"
            claimed = receipt.checkpoints.get(str(report.step))
            if claimed not in (None, digest(walk.state.parameters)):
                yield f"after step {report.step} the parameters do not have the digest claimed"


def _group_by_start(replay: Replay, chosen: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Yield the step of each checkpoint to start from, 0 for the beginning, with the chosen steps to go to from it."""
    stored = replay.store.list_steps()
    groups: dict[int, list[int]] = {}
    for step in chosen:
        groups.setdefault(max((s for s in stored if s < step), default=0), []).append(step)
    yield from groups.items()


def _is_as_logged(report: StepReport, record: StepRecord | None) -> bool:
    if record is None:  # a line that was lost, which the receipt had not either
        return True
    ours = report.checksum, report.loss, report.num_examples, report.epoch
    return ours == (record.checksum, record.loss, record.num_examples, record.epoch)


def _check_accuracy(replay: Replay) -> Claim:
    """Evaluate the final parameters on the validation part and compare with the result."""
    if replay.plan.worker.validation is None:
        return Claim("accuracy", True, "the run has no validation part")
    result = replay.run.read_result() or {}
    with Walk(replay.plan, replay.load(int(result["final_step"]))) as walk:
        found = walk.evaluate()
    holds = (found.loss, found.accuracy) == (result.get("validation_loss"), result.get("validation_accuracy"))
    words = "computed again, the same" if holds else f"computed again, it is {found.accuracy}, with loss {found.loss}"
    return Claim("accuracy", holds, words)


def is_same_code(receipt: Receipt) -> bool:
    """Return whether the receipt was made by exactly the code that runs here."""
    return (receipt.version, receipt.code) == describe_code()
