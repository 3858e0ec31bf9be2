"""Waiting for data in blocks is told step by step, and so in the report."""

from __future__ import annotations

import numpy as np
import pytest
from block_files import write_blocks

from distbp import train
from distbp.report import read_story, write_report
from distbp.report.plots import plot_all
from distbp.run import RunDirectory

pytestmark = pytest.mark.slow


@pytest.fixture
def run_on_blocks(make_recipe, make_placement, tmp_path):
    """A run that waits for blocks, which are not kept in memory; returns its result."""
    data = {"source": str(write_blocks(tmp_path / "d")), "validation": 0.2, "window_blocks": 2}
    recipe = make_recipe(data=data, global_batch_size=60)
    return train(recipe, make_placement(workers=2, memory_for_data="0B"), name="blocks")


def test_the_waits_of_the_steps_are_those_of_the_run(run_on_blocks, tmp_path):
    records = RunDirectory.open(run_on_blocks.run).read_steps()
    waits = [record.data_s for record in records]
    assert sum(waits) > 0
    assert sum(waits) == pytest.approx(run_on_blocks.data_s, abs=1e-3)
    story = read_story(run_on_blocks.run)
    assert story.times.data_s == pytest.approx(np.mean(waits))
    parts = story.times.compute_s + story.times.transfer_s + story.times.commit_s + story.times.data_s
    assert story.times.total_s == pytest.approx(parts)
    steps = {plot.name: plot for plot in plot_all([story])}["steps"]
    assert "waiting for data" in steps.caption
    write_report([story], tmp_path / "page.html")
    assert "<th>waiting for data</th>" in (tmp_path / "page.html").read_text()


def test_data_in_memory_are_not_waited_for(make_recipe, make_placement, tmp_path):
    result = train(make_recipe(), make_placement(), name="memory")
    run = RunDirectory.open(result.run)
    assert not {b"data_s", b"weight"} & set(run.folder.read("steps.jsonl").replace(b'"', b" ").split())
    story = read_story(result.run)
    assert story.times.data_s == 0.0
    write_report([story], tmp_path / "page.html")
    assert "<th>waiting for data</th>" not in (tmp_path / "page.html").read_text()
