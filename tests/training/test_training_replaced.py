"""Two attempts of one job overlap: nothing that the old driver does reaches the disk once a new one has the run."""

from __future__ import annotations

import sys

import pytest
from replaced_driver import (
    MOMENTS,
    check_driver_that_comes_back_late,
    check_driver_that_comes_back_meanwhile,
    expect_undisturbed,
)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_driver_continued_after_its_run_was_finished_by_another_changes_nothing(tmp_path, monkeypatch, moment):
    result = check_driver_that_comes_back_late(str(tmp_path / "runs"), moment, monkeypatch)
    expect_undisturbed(result, tmp_path)


@pytest.mark.parametrize("moment", ["append", "publish", ""])
def test_a_driver_continued_while_another_goes_on_does_not_disturb_it(tmp_path, monkeypatch, moment):
    result = check_driver_that_comes_back_meanwhile(str(tmp_path / "runs"), moment, monkeypatch)
    expect_undisturbed(result, tmp_path)
