"""All configuration, split by consequence: what may change the numbers, and where a run happens.

The promise as a type: the same Recipe gives the same bytes for any Placement. Nothing here reads data or starts
anything.
"""

from distbp.config.config import Config, find_fields
from distbp.config.description import describe_config
from distbp.config.loading import WRITTEN_BY, load_config, parse_config
from distbp.config.placement import Placement
from distbp.config.recipe import Data, EarlyStopping, Model, Optimizer, Recipe, Schedule
from distbp.config.rounds import Outer, Rounds
from distbp.config.values import to_values
from distbp.config.yaml_text import dump_yaml, parse_yaml

__all__ = [
    "WRITTEN_BY",
    "Config",
    "Data",
    "EarlyStopping",
    "Model",
    "Optimizer",
    "Outer",
    "Placement",
    "Recipe",
    "Rounds",
    "Schedule",
    "describe_config",
    "dump_yaml",
    "find_fields",
    "load_config",
    "parse_config",
    "parse_yaml",
    "to_values",
]
