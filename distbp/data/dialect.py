"""How a text table is written, told by its first line: the character code, what stands between cells, the names."""

from __future__ import annotations

import codecs
import csv
import gzip
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distbp.data.reading import reading
from distbp.errors import DataError

HEAD_BYTES = 1 << 20
DELIMITERS = (",", ";", "\t", "|")
_LINE_END = re.compile(r"\r\n?|\n")
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class Dialect:
    """encoding: for pyarrow. delimiter: one character. names: the columns, as the first line has them."""

    encoding: str
    delimiter: str
    names: tuple[str, ...]

    @property
    def may_have_decimal_commas(self) -> bool:
        """Whether a comma can be part of a number, because cells are separated by something else."""
        return self.delimiter != ","


def find_dialect(path: Path) -> Dialect:
    """Return how the table in `path`, plain or gzipped, is written. Raises DataError if it is no text."""
    with reading(path, "a text table"), gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    return read_dialect(head, f"'{path}'")


def read_dialect(head: bytes, origin: str) -> Dialect:
    """Return how a table that begins with `head` is written."""
    encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
    line = _LINE_END.split(head.decode(encoding, errors="replace").lstrip("\r\n"), maxsplit=1)[0]
    if "\0" in line:
        raise DataError(f"{origin} is no text in UTF-8: its first line holds zero bytes; save it as UTF-8")
    delimiter = max(DELIMITERS, key=lambda character: _outside_quotes(line).count(character))
    try:
        names = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error as error:  # such as a name of more than 131,072 characters
        raise DataError(f"the first line of {origin} is no row of column names: {error}") from None
    return Dialect("utf-8" if encoding == "utf-8-sig" else encoding, delimiter, tuple(names))


def find_spelling(name: str, names: Sequence[str]) -> str:
    """Return the column among `names` that is called `name`, also where its accents are composed in another way."""
    if name in names:
        return name
    wanted = unicodedata.normalize("NFC", name)
    return next((found for found in names if unicodedata.normalize("NFC", found) == wanted), name)


def _outside_quotes(line: str) -> str:
    return "".join(line.split('"')[::2])
