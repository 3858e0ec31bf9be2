"""Ends of lines in CSV files in blocks: none is lost silently."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from distbp.data.blocks.look import Question, look_at
from distbp.errors import DataError

LINES = ["a,y", *(f"{number},{'xy'[number % 2]}" for number in range(12))]


def write(folder: Path, suffix: str, end: str, first_end: str | None = None) -> str:
    text = (LINES[0] + (first_end or end) + end.join(LINES[1:]) + end).encode()
    (folder / f"1{suffix}").write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    return str(folder)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize(("end", "first_end"), [("\r", None), ("\n", "\r")])
def test_a_header_that_ends_with_a_carriage_return_is_refused(tmp_path, suffix, end, first_end):
    with pytest.raises(DataError, match=r"1\.csv.*' end with carriage returns; save it with line feeds") as caught:
        look_at(Question(write(tmp_path, suffix, end, first_end)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize(("end", "first_end"), [("\n", None), ("\r\n", None), ("\r", "\n"), ("\n", "\r\n")])
def test_other_ends_lose_no_row(tmp_path, suffix, end, first_end):
    assert look_at(Question(write(tmp_path, suffix, end, first_end))).num_rows == len(LINES) - 1
