"""Hosts for the tests of this folder; skipped with a reason where a machine cannot make them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hosts import Host, make_hosts, reason_to_skip
from ray_hosts import RayOnHosts


@pytest.fixture(scope="session", autouse=True)
def _hosts_are_possible() -> None:
    if reason := reason_to_skip():
        pytest.skip(reason)


@pytest.fixture
def two_hosts() -> Iterator[list[Host]]:
    with make_hosts(2) as hosts:
        yield hosts


@pytest.fixture(scope="session")
def four_hosts() -> Iterator[list[Host]]:
    with make_hosts(4, bandwidth="1gbit") as hosts:
        yield hosts


@pytest.fixture(scope="session")
def cluster(four_hosts) -> RayOnHosts:
    """Ray with its authentication on, over the four hosts; it ends with them."""
    return RayOnHosts(four_hosts, token="only-for-this-test-" + "0" * 32)
