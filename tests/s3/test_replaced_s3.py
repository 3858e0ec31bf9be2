"""Two attempts of one job overlap: nothing that the old driver does reaches S3 once a new one has the run."""

from __future__ import annotations

import sys

import pytest
from replaced_driver import (
    check_driver_that_comes_back_late,
    check_driver_that_comes_back_meanwhile,
    expect_undisturbed,
)

from distbp.run.storage.opening import open_folder

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]


@pytest.mark.parametrize("moment", ["append", "publish", "write", "remove", ""])
def test_a_driver_continued_after_its_run_was_finished_by_another_changes_nothing(
    s3_storage, tmp_path, monkeypatch, moment
):
    result = check_driver_that_comes_back_late(s3_storage, moment, monkeypatch)
    expect_undisturbed(result, tmp_path)


@pytest.mark.parametrize("moment", ["append", "publish", ""])
def test_a_driver_continued_while_another_goes_on_does_not_disturb_it(s3_storage, tmp_path, monkeypatch, moment):
    result = check_driver_that_comes_back_meanwhile(s3_storage, moment, monkeypatch)
    expect_undisturbed(result, tmp_path)


def test_a_file_that_somebody_else_has_written_meanwhile_is_not_replaced(s3_storage):
    folder = open_folder(s3_storage)
    folder.write("file", b"one")
    assert folder.write_over("file", b"one", b"two")
    assert not folder.write_over("file", b"one", b"three")
    assert folder.read("file") == b"two"
    assert not folder.write_over("absent", b"one", b"two")
    assert folder.read("absent") is None
