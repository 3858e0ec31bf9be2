"""train() and what it consists of: the plan, the session that carries it out, and what goes into checkpoints."""

from distbp.training.session import Observer, Progress
from distbp.training.train import Result, Resume, train

__all__ = ["Observer", "Progress", "Result", "Resume", "train"]
