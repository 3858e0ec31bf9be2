"""What `verify --deep` and `attest` say to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from distbp.text.printable import printable

if TYPE_CHECKING:
    from distbp.verification.check import Check
    from distbp.verification.deep import Parting


def describe_parting(parting: Parting, run_a: str, run_b: str) -> str:
    """Return where two runs part, as the end of a sentence."""
    step, tensors = parting.step, _name_tensors(parting.tensors)
    match parting.kind:
        case "network":
            return f"their networks are not alike: {tensors} is in one of them only, or has another shape"
        case "state":
            when = "they start from different values" if step == 1 else f"what they had before step {step} differs"
            return f"{when}, first in {tensors}"
        case "cut":
            return f"they cut the batch of step {step} in different ways, so no microbatch is in both"
        case "microbatch":
            return (
                f"computed again, they part in microbatch {parting.microbatch} of the {parting.num_microbatches} of "
                f"step {step}, counted from 0, first in {tensors}"
            )
        case "update":
            return (
                f"computed again, all {parting.num_microbatches} microbatches of step {step} are the same; they part "
                f"in the update that follows, first in {tensors}"
            )
        case "record":
            return _describe_record(parting, run_a, run_b)


def _describe_record(parting: Parting, run_a: str, run_b: str) -> str:
    """Return the sentence about runs whose recipes and data give the same step, whatever their logs say."""
    agrees = {(True, False): run_a, (False, True): run_b}.get((bool(parting.matches_a), bool(parting.matches_b)))
    whose = f"as in '{agrees}' and not as in the other" if agrees else "as in neither of them"
    where = f"their checkpoints differ first in {_name_tensors(parting.tensors)}"
    if not parting.tensors:
        where = f"not both have a checkpoint of step {parting.step} that differs, so the tensor is not known"
    kernels = ""
    if parting.kernels_a != parting.kernels_b:
        kernels = f"; '{run_a}' was computed by {parting.kernels_a}, '{run_b}' by {parting.kernels_b}"
    return (
        f"computed again here, step {parting.step} is the same for both, {whose}, and a run keeps no gradients, so no "
        f"microbatch can be named; {where}{kernels}"
    )


def _name_tensors(names: tuple[str, ...]) -> str:
    more = len(names) - 1
    return f"tensor '{names[0]}'" + (f" (and {more} more)" if more > 0 else "")


def make_claim_table(check: Check) -> Table:
    """Return one row for each part of a receipt: whether the run bears it out."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("part")
    table.add_column("holds")
    table.add_column("found", overflow="fold")
    for claim in check.claims:
        table.add_row(claim.part, "yes" if claim.holds else "no", printable(claim.words))
    return table


def describe_check(run: str, file: str, check: Check) -> str:
    """Return what checking a receipt comes to."""
    if check.holds:
        return f"'{run}' is what '{file}' claims, in all that was looked at"
    wrong = "; ".join(f"{claim.part}: {claim.words}" for claim in check.claims if not claim.holds)
    return f"'{run}' is not what '{file}' claims: {wrong}"
