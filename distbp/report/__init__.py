"""A page about one run or several side by side, from what they left in storage."""

from distbp.report.model import ModelStory, describe_model, read_model
from distbp.report.page import write_model_page, write_report
from distbp.report.story import RunStory, read_story

__all__ = ["ModelStory", "RunStory", "describe_model", "read_model", "read_story", "write_model_page", "write_report"]
