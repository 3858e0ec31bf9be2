"""distbp: data-parallel SGD on Ray whose result does not depend on where it ran.

from distbp import Placement, Recipe, load_run, train
"""

from distbp.config import Config, Placement, Recipe, load_config
from distbp.errors import DistbpError
from distbp.trained import TrainedRun, load_run
from distbp.training import Result, train
from distbp.verify import Verdict, verify

__all__ = [
    "Config",
    "DistbpError",
    "Placement",
    "Recipe",
    "Result",
    "TrainedRun",
    "Verdict",
    "load_config",
    "load_run",
    "train",
    "verify",
]
