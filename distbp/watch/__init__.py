"""A live view of runs from what they write to storage: one model of a run, shown in a terminal or as a page."""

from distbp.watch.feed import JobFeed, RunFeed
from distbp.watch.observing import Watch
from distbp.watch.state import RunState

__all__ = ["JobFeed", "RunFeed", "RunState", "Watch"]
