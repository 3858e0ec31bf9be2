from __future__ import annotations

from collections.abc import Iterator

import pytest
from faulty_storage import Faults, make_faulty_storage


@pytest.fixture
def faults() -> Iterator[Faults]:
    """The switch of storage at faulty://..., which is empty and works."""
    faults = make_faulty_storage()
    yield faults
    faults.end()
