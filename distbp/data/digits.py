"""The digits that ship with distbp: 1,797 handwritten digits of 8 x 8 pixels, each 0 to 16.

They are the test part of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, 1998, https://doi.org/10.24432/C50P49, CC BY 4.0; the same that scikit-learn ships.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from distbp.data.arrays import read_npz
from distbp.data.raw import RawExamples, Wanted
from distbp.errors import DataError

DIGITS_PATH = Path(__file__).with_name("digits.npz")


def read_digits(wanted: Wanted) -> RawExamples:
    """Return the digits: x (1797, 64) uint8, y (1797,) uint8."""
    if wanted.target is not None:
        raise DataError(f"target={wanted.target!r} names nothing in the digits; leave target out")
    return replace(read_npz(DIGITS_PATH, wanted), kind="digits", origin="the digits")
