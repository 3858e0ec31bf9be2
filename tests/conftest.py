from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest
from faulty_storage import Faults, make_faulty_storage

# A busy machine is no reason to fail.
hypothesis.settings.register_profile("distbp", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("distbp")


@pytest.fixture
def faults() -> Iterator[Faults]:
    """The switch of storage at faulty://..., which is empty and works."""
    faults = make_faulty_storage()
    yield faults
    faults.end()
