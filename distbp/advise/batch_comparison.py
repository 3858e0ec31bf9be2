"""A short comparison of batch sizes: steps to a goal, with rate and momentum tuned at each, in a given time."""

from __future__ import annotations

import time
from collections.abc import Sequence

from distbp.advise.advice import TunedSteps
from distbp.config import Recipe
from distbp.lab.hyperbola import Hyperbola
from distbp.lab.trial import run_trial
from distbp.study.batch_size.findings import Search
from distbp.study.batch_size.study import MIN_PATIENCE, propose_trial

CAP_FACTOR = 3.0
"""A trial may take this many times the steps that are expected at its batch size."""
MOST_TRIALS = 24
"""At each batch size: more hardly find fewer steps."""


def compare_sizes(
    recipe: Recipe, goal: float, expected: Hyperbola, batch_sizes: Sequence[int], seconds: float
) -> tuple[TunedSteps, ...]:
    """Search at every batch size, each for about the same time, and return those that reached `goal`.

    No trial begins that would end after `seconds`, taken to last as long as those before it at its batch size.
    """
    until = time.perf_counter() + seconds
    searches = [Search(size, 0.0, ()) for size in batch_sizes]
    spent = [0.0] * len(searches)
    while unfinished := [i for i, search in enumerate(searches) if len(search.trials) < MOST_TRIALS]:
        began = time.perf_counter()
        turn = min(unfinished, key=spent.__getitem__)
        search = searches[turn]
        if began + spent[turn] / max(1, len(search.trials)) >= until:
            break
        cap = MIN_PATIENCE + int(CAP_FACTOR * expected.steps(search.batch_size))
        candidate, trial = propose_trial(recipe, search, (goal,), cap)
        searches[turn] = search.with_trial(candidate, run_trial(trial))
        spent[turn] += time.perf_counter() - began
    return tuple(
        TunedSteps(search.batch_size, fastest[0], len(search.trials))
        for search in searches
        if (fastest := search.fastest(goal)) is not None
    )
