"""Are two runs the same bytes? If not, the first step where they part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distbp.errors import CheckpointError
from distbp.run import RunDirectory


@dataclass(frozen=True)
class Verdict:
    """What comparing two runs found.

    same: whether the final digests are equal. first_difference: the first step after which the parameters differ;
    None where they never do, or where the runs share no logged step. steps: how many logged steps were compared.
    same_recipe: whether equal bytes were to be expected at all.
    """

    same: bool
    digest_a: str
    digest_b: str
    first_difference: int | None
    steps: int
    same_recipe: bool


def verify(run_a: str, run_b: str) -> Verdict:
    """Compare two finished runs: final digests, and the checksum of the parameters after every logged step.

    Raises CheckpointError if one of them is no run or has not finished.
    """
    a, b = RunDirectory.open(run_a), RunDirectory.open(run_b)
    digest_a, digest_b = _digest(a), _digest(b)
    checksums_a, checksums_b = a.read_checksums(), b.read_checksums()
    shared = sorted(checksums_a.keys() & checksums_b.keys())
    return Verdict(
        same=digest_a == digest_b,
        digest_a=digest_a,
        digest_b=digest_b,
        first_difference=next((step for step in shared if checksums_a[step] != checksums_b[step]), None),
        steps=len(shared),
        same_recipe=a.read_config().recipe.digest == b.read_config().recipe.digest,
    )


def _digest(run: RunDirectory) -> str:
    result: dict[str, Any] | None = run.read_result()
    if result is None:
        raise CheckpointError(f"'{run.url}' has not finished; resume it with the command that started it")
    if "digest" not in result:
        raise CheckpointError(f"result.json of '{run.url}' is damaged: it has no digest; copy the run again")
    return str(result["digest"])
