"""Which files a source is read from."""

from __future__ import annotations

from pathlib import Path

from distbp.data.arrays import find_target_file
from distbp.data.idx import find_folder_files, find_label_file, is_idx_name
from distbp.data.reading import reading, to_path
from distbp.data.sources import DIGITS

Target = str | tuple[str, ...] | None


def list_files(source: str, target: Target = None, held_out: bool = False) -> list[Path]:
    """Return the files that `read_source` reads for `source` and `target`; whether they exist is not asked.

    held_out: whether as validation data, of which an IDX folder may have files of its own.

    Raises DataError where the target file is not known.
    """
    if source == DIGITS or "://" in source:
        return []
    path = to_path(source)
    with reading(path, "data"):
        is_folder = path.is_dir()
    if is_folder:
        return find_folder_files(path, held_out)
    if is_idx_name(path.name):
        return [path, find_label_file(path, target)]
    if path.suffix.lower() == ".npy":
        return [path, find_target_file(path, target)]
    return [path]
