"""Whether data in blocks come as fast as a worker computes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from distbp.data import PreparedData
from distbp.data.blocks.supply import BlockSupply
from distbp.doctor.findings import Finding, ok, warn
from distbp.training.plan import Plan

NUM_BLOCKS = 5
OVERHEAD_S = 1e-4
"""Of a microbatch, beside its matrix products."""
OPERATIONS = 6
"""Of a dense layer's gradient, per weight and example."""


def check_data(plan: Plan, data: PreparedData, gflops: float, num_threads: int) -> Iterator[Finding]:
    """Yield how fast blocks are read, beside how fast a worker would compute; nothing for data in memory.

    gflops: of one core.
    """
    if not isinstance(data.train, BlockSupply):
        return
    rows_per_s = measure_reading(data.train)
    reads = f"one thread reads {rows_per_s:,.0f} rows a second"
    if plan.recipe.model.torch is not None or plan.recipe.model.function is not None:
        yield ok("data", f"{reads}; how fast a model of your own computes is not known here")
        return
    size = plan.recipe.microbatch_size
    seconds = OVERHEAD_S + OPERATIONS * plan.layout.num_parameters * size / (gflops * 1e9)
    computes_per_s = num_threads * size / seconds
    fact = f"{reads}, and a worker computes at most {computes_per_s:,.0f}"
    if rows_per_s < computes_per_s:
        yield warn("data", fact, "steps may wait for data; `distbp data pack` writes blocks that are read faster")
    else:
        yield ok("data", fact)


def measure_reading(supply: BlockSupply) -> float:
    """Return rows a second, the median over a few blocks from all over the source."""
    fetcher = supply.make_fetcher()
    blocks = supply.source.look.blocks
    numbers = sorted({len(blocks) * n // NUM_BLOCKS for n in range(NUM_BLOCKS)})
    speeds = []
    for number in numbers:
        began = time.perf_counter()
        supply.source.read(number, supply.is_held_out, fetcher)
        speeds.append(blocks[number].num_rows / (time.perf_counter() - began))
    return statistics.median(speeds)
