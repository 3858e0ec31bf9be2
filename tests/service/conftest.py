from __future__ import annotations

from collections.abc import Iterator

import pytest
from ray_head import Service, start_head


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """One head for all tests here."""
    with start_head() as found:
        yield found
