"""train() and what it consists of: the plan, the session that carries it out, and what goes into checkpoints."""

from distbp.training.plan import Start
from distbp.training.progress import EpochWatcher, Finisher, Observer, Progress
from distbp.training.run_choice import Resume
from distbp.training.train import Result, train

__all__ = ["EpochWatcher", "Finisher", "Observer", "Progress", "Result", "Resume", "Start", "train"]
