"""What is worth knowing about data in blocks before training on them. Pure: a look in, findings out."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from distbp.data.blocks.look import Look
from distbp.text.masking import mask_secrets

SMALL_BLOCK_BYTES = 1 << 16
LARGE_BLOCK_BYTES = 1 << 29
MANY_BLOCKS = 64
FEW_BLOCKS = 16
SORTED_SHARE = 0.5
ENOUGH_ROWS = 20

PACK = "`distbp data pack` writes blocks of a good size, shuffled"


@dataclass(frozen=True)
class Description:
    """What a first look found. block_rows, block_bytes: (smallest, mean, largest); bytes as they are stored."""

    source: str
    kind: str
    files: int
    bytes: int
    blocks: int
    rows: int
    block_rows: tuple[int, int, int]
    block_bytes: tuple[int, int, int]
    input_shape: tuple[int, ...]
    features: tuple[str, ...]
    targets: tuple[str, ...]
    task: str
    classes: dict[str, int]
    num_outputs: int
    warnings: tuple[str, ...]


def describe(look: Look) -> Description:
    """Return what the data are, with a warning for whatever makes training on them slow or its batches alike."""
    rows = [facts.num_rows for facts in look.blocks]
    sizes = [facts.block.stop - facts.block.start for facts in look.blocks]
    listing = look.contents.listing
    return Description(
        source=mask_secrets(listing.source),
        kind=listing.suffix.removeprefix("."),
        files=len(listing.files),
        bytes=sum(file.size for file in listing.files),
        blocks=len(rows),
        rows=sum(rows),
        block_rows=_spread(rows),
        block_bytes=_spread(sizes),
        input_shape=look.input_shape,
        features=look.contents.features,
        targets=look.contents.targets,
        task=look.task,
        classes={str(label): count for label, count in look.classes},
        num_outputs=look.num_outputs,
        warnings=tuple(warning for check in _CHECKS if (warning := check(look)) is not None),
    )


def _spread(numbers: list[int]) -> tuple[int, int, int]:
    return min(numbers), round(fmean(numbers)), max(numbers)


def _find_sorted(look: Look) -> str | None:
    if look.task != "classification" or len(look.blocks) < 2 or look.num_rows < ENOUGH_ROWS * len(look.blocks):
        return None
    in_blocks = sum(facts.top_rows for facts in look.blocks) / look.num_rows
    in_all = max(count for _, count in look.classes) / look.num_rows
    if in_blocks - in_all < SORTED_SHARE * (1 - in_all):
        return None
    return (
        f"the blocks are sorted by class: {in_blocks:.0%} of a block's rows are of its commonest class, of all rows "
        f"{in_all:.0%} are; so batches will be alike. {PACK}; or raise recipe.data.window_blocks"
    )


def _find_tiny(look: Look) -> str | None:
    mean = fmean(facts.block.stop - facts.block.start for facts in look.blocks)
    if len(look.blocks) <= MANY_BLOCKS or mean >= SMALL_BLOCK_BYTES:
        return None
    return f"the blocks are tiny: {len(look.blocks):,} of {mean:,.0f} bytes on average, so reading is slow. {PACK}"


def _find_huge(look: Look) -> str | None:
    largest = max(look.blocks, key=lambda facts: facts.block.stop - facts.block.start)
    size = largest.block.stop - largest.block.start
    if size <= LARGE_BLOCK_BYTES:
        return None
    url = mask_secrets(look.contents.file(largest.block).url)
    return f"'{url}' has a block of {size:,} bytes, and a worker holds several at once. {PACK}"


def _find_few(look: Look) -> str | None:
    if len(look.blocks) >= FEW_BLOCKS or look.num_rows < ENOUGH_ROWS * FEW_BLOCKS:
        return None
    return f"the number of blocks is only {len(look.blocks)}, so most workers will read most of the data. {PACK}"


def _find_csv(look: Look) -> str | None:
    if look.contents.listing.suffix != ".csv":
        return None
    return f"CSV files are read once more to be cut into blocks, and are slow to decode in every epoch. {PACK}"


_CHECKS = (_find_sorted, _find_tiny, _find_huge, _find_few, _find_csv)
