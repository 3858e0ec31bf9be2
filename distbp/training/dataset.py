"""A Ray Dataset as data in blocks: written once where the recipe's source says, and found there by later calls."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from distbp.data.blocks.files import explain_failure
from distbp.errors import ConfigError, DistbpError, StorageError
from distbp.text.masking import mask_secrets

logger = logging.getLogger("distbp")

COMPLETE = "_SUCCESS"
"""The file that says that all others are there, as Spark writes it; names that begin so are no data."""
ROW_GROUP_ROWS = 1 << 13


def write_dataset(dataset: Any, source: str) -> None:
    """Write a Ray Dataset as Parquet files to the folder or URL `source`, unless an earlier call has done so.

    Raises ConfigError for what is no Ray Dataset, StorageError where it cannot be written or something else is there.
    """
    if not callable(getattr(dataset, "write_parquet", None)):
        raise ConfigError(
            f"data is a {type(dataset).__name__}; expected a Ray Dataset, other data are named as recipe.data.source"
        )
    if source == "digits":
        raise ConfigError("data needs a place to be written to: set recipe.data.source to a new folder or URL")
    path = source if "://" in source else str(Path(source).expanduser().absolute())
    try:
        filesystem, folder = url_to_fs(path)
        if filesystem.exists(f"{folder}/{COMPLETE}"):
            logger.info("'%s' holds the data already; to write them again, remove it", mask_secrets(source))
            return
        if filesystem.exists(folder) and filesystem.ls(folder, detail=False):
            raise StorageError(
                f"'{source}' holds files, and not a whole dataset that train() wrote; remove them, or name a new "
                "folder as recipe.data.source"
            )
        filesystem.makedirs(folder, exist_ok=True)
        dataset.write_parquet(folder, filesystem=_to_arrow(filesystem), row_group_size=ROW_GROUP_ROWS)
        with filesystem.open(f"{folder}/{COMPLETE}", "wb") as stream:
            stream.write(b"")
    except DistbpError:
        raise
    except Exception as error:  # storage packages raise exceptions of all kinds, and so do the dataset's own functions
        raise StorageError(f"cannot write the dataset to '{source}': {explain_failure(error, source)}") from error


def _to_arrow(filesystem: Any) -> Any:
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return PyFileSystem(FSSpecHandler(filesystem))
