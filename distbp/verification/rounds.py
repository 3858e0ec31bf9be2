"""Where two runs in rounds part: the round, and the replica where the logs tell."""

from __future__ import annotations

from dataclasses import dataclass

from distbp.protocol.rounds import end_of_round, start_of_round
from distbp.run import Checkpoint, RunDirectory


@dataclass(frozen=True)
class RoundDifference:
    """The first round after which two runs differ: its first and last step, and the first replica that differed.

    replica: None where the replicas agree up to the commit, or where a log does not tell.
    """

    first_step: int
    last_step: int
    replica: int | None


def find_round(step: int, a: RunDirectory, b: RunDirectory, final: Checkpoint) -> RoundDifference | None:
    """Return what is known of the round of `step`, the first after which two runs differ; None without rounds.

    final: the checkpoint that run `a` ended with.
    """
    recipe = a.read_config().recipe
    if recipe.rounds.steps is None or recipe.rounds != b.read_config().recipe.rounds:
        return None
    num_steps = _steps_per_epoch(final)
    first, last = start_of_round(recipe, step - 1, num_steps) + 1, end_of_round(recipe, step - 1, num_steps)
    pairs = zip(_read_replicas(a, step), _read_replicas(b, step), strict=False)
    return RoundDifference(first, last, next((k for k, (one, other) in enumerate(pairs) if one != other), None))


def _steps_per_epoch(final: Checkpoint) -> int:
    """Return what follows from the end of a run, which is that of an epoch."""
    return final.step // max(1, int(str(final.position["epochs_evaluated"])))


def _read_replicas(run: RunDirectory, step: int) -> tuple[str, ...]:
    return next((record.replicas for record in run.read_steps() if record.step == step), ())
