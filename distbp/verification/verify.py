"""Are two runs the same bytes? If not, the first step after which they differ."""

from __future__ import annotations

from dataclasses import dataclass

from distbp.data.fingerprint import may_be_the_same
from distbp.errors import CheckpointError
from distbp.prediction.trained_run import TrainedRun
from distbp.run import Checkpoint, CheckpointStore, RunDirectory
from distbp.training.checkpoint_contents import check_recipe
from distbp.verification.rounds import RoundDifference, find_round


@dataclass(frozen=True)
class Verdict:
    """What comparing two runs found.

    same: whether the final parameters are, byte by byte, and the checksums of all steps that both have logged.
    first_difference: the first step after which the parameters differ; None where they never do, or where the runs
    share no logged step. steps: how many logged steps were compared.
    same_recipe: whether recipe and data are the same, so that equal bytes were to be expected at all.
    round: where both were trained in the same rounds, the one of the first difference.
    """

    same: bool
    digest_a: str
    digest_b: str
    first_difference: int | None
    steps: int
    same_recipe: bool
    round: RoundDifference | None = None


def verify(run_a: str, run_b: str) -> Verdict:
    """Compare two finished runs: the final parameters, read and hashed, and the checksum after every logged step.

    Raises CheckpointError if one of them is no run, has not finished, or does not hold the parameters of its result.
    """
    a, b = RunDirectory.open(run_a), RunDirectory.open(run_b)
    final_a, final_b = load_final(a), load_final(b)
    checksums_a, checksums_b = a.read_checksums(), b.read_checksums()
    shared = sorted(checksums_a.keys() & checksums_b.keys())
    first_difference = next((step for step in shared if checksums_a[step] != checksums_b[step]), None)
    return Verdict(
        same=_parameters(final_a) == _parameters(final_b) and first_difference is None,
        digest_a=final_a.digest,
        digest_b=final_b.digest,
        first_difference=first_difference,
        steps=len(shared),
        same_recipe=a.read_config().recipe.digest == b.read_config().recipe.digest
        and may_be_the_same(final_a.data, final_b.data),
        round=None if first_difference is None else find_round(first_difference, a, b, final_a),
    )


def load_final(run: RunDirectory) -> Checkpoint:
    """Return the checkpoint that a run ended with, which is the one that its result tells of.

    Raises CheckpointError if there is none, or if it is not what the result says.
    """
    result = run.read_result()
    if result is None:
        raise CheckpointError(f"'{run.url}' has not finished; resume it with the command that started it")
    digest, step = result.get("digest"), result.get("final_step")
    if not isinstance(digest, str) or not isinstance(step, int):
        raise CheckpointError(f"result.json of '{run.url}' is damaged: it has no digest or step; copy the run again")
    checkpoint = CheckpointStore(run, keep=1).load(step)
    if checkpoint.digest != digest:
        raise CheckpointError(
            f"result.json of '{run.url}' tells of parameters {digest[:12]}, its checkpoint of step {step} holds "
            f"{checkpoint.digest[:12]}; one of them is of another run, copy the run again"
        )
    check_digest(run, checkpoint)
    return checkpoint


def check_digest(run: RunDirectory, checkpoint: Checkpoint) -> None:
    """Raise CheckpointError unless the parameters have the digest that is written beside them.

    Of a model of the user's own, whose module need not be here, the order in which they are hashed is not known;
    there the seal of manifest and state file must do.
    """
    if run.read_config().recipe.model.function is None:
        TrainedRun(run, checkpoint)
    else:
        check_recipe(run, checkpoint)


def _parameters(checkpoint: Checkpoint) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return dtype, shape and bytes of every parameter."""
    return {
        name: (array.dtype.str, array.shape, array.tobytes())
        for name, array in checkpoint.tensors.items()
        if name.startswith("parameters/")
    }
