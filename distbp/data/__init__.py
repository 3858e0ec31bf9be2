"""From `recipe.data` to the examples that workers hold: readers, classes, the split, and scaling.

The readers (`digits`, `idx`, `arrays`, `tables`) give x and y as they are stored; `sources` picks one; `targets`,
`split` and `scaling` turn that into numbers; `prepare` puts the pieces together. Whatever is wrong with the data is
one DataError. Nothing here knows workers, batches or models.
"""

from distbp.data.blocks.preparing import is_in_blocks
from distbp.data.doubts import advise_on_targets, find_doubts
from distbp.data.memory import take_features
from distbp.data.opening import hold, prepare, prepare_in_memory, read_examples, read_features
from distbp.data.prepare import PreparedData
from distbp.data.reading import as_source
from distbp.data.schema import Schema
from distbp.data.sources import read_columns

__all__ = [
    "PreparedData",
    "Schema",
    "advise_on_targets",
    "as_source",
    "find_doubts",
    "hold",
    "is_in_blocks",
    "prepare",
    "prepare_in_memory",
    "read_columns",
    "read_examples",
    "read_features",
    "take_features",
]
