"""Every number of a study, as CSV and JSON."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distbp.machine.aside import replace_file
from distbp.text.json_text import encode_document


class Sheet(NamedTuple):
    """One CSV file."""

    name: str
    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]


def write_sheets(sheets: Iterable[Sheet], folder: Path) -> None:
    """Write each sheet as a CSV file; what is not known is an empty cell."""
    folder.mkdir(exist_ok=True)
    for sheet in sheets:
        with (
            replace_file(folder / f"{sheet.name}.csv") as aside,
            aside.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(sheet.columns)
            writer.writerows(sheet.rows)


def write_summary(values: dict[str, Any], path: Path) -> None:
    """Write the JSON summary."""
    with replace_file(path) as aside:
        aside.write_bytes(encode_document(values))
