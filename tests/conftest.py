from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import fsspec
import hypothesis
import pytest
from faulty_storage import Faults, make_faulty_storage

QUICK = "not ray"
LEFT_OUT = pytest.StashKey[int]()

# A busy machine is no reason to fail.
hypothesis.settings.register_profile("distbp", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("distbp")


@pytest.fixture(scope="session", autouse=True)
def _cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let what distbp keeps between runs, such as first looks at data, be in a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def faults() -> Iterator[Faults]:
    """The switch of storage at faulty://..., which is empty and works."""
    faults = make_faulty_storage()
    yield faults
    faults.end()


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A storage URL of each of the two kinds of filesystem: with renames and appends, and without."""
    if request.param == "local":
        yield str(tmp_path / "runs")
        return
    url = f"memory://{secrets.token_hex(4)}/runs"
    yield url
    filesystem, path = fsspec.core.url_to_fs(url)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


@pytest.hookimpl(trylast=True)  # after pytest itself has left out those that start Ray
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the slow tests too where `-m "not ray"` asks for the quick ones."""
    if config.option.markexpr != QUICK:
        return
    slow = [item for item in items if item.get_closest_marker("slow") is not None]
    config.stash[LEFT_OUT] = len(slow)
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item.get_closest_marker("slow") is None]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what the quick tests left out."""
    if LEFT_OUT in config.stash:
        num_slow, num_all = config.stash[LEFT_OUT], len(terminalreporter.stats.get("deselected", []))
        terminalreporter.write_line(
            f"left out: {num_all - num_slow} tests that start Ray and {num_slow} that start other programs or train "
            "whole runs; `pytest` runs all"
        )
