"""A page about one run or several side by side, from what they left in storage."""

from distbp.report.page import write_report
from distbp.report.story import RunStory, read_story

__all__ = ["RunStory", "read_story", "write_report"]
