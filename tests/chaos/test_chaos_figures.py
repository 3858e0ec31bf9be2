"""Figures of several sittings add up as if they were of one."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from chaos_figures import Figures, add_up, describe_times
from gremlin import KINDS, OF_A_CLUSTER

RUN = Path(__file__).with_name("run.py")


def test_parts_that_were_written_add_up(tmp_path):
    parts = [
        Figures({"killed": 2, "hung": 1}, 3, 1, [0.5], [4.0, 5.0], 10.0),
        Figures({"killed": 1, "preempted": 4}, 1, 4, [1.5, 2.5], [], 20.0),
    ]
    for number, part in enumerate(parts):
        part.write(tmp_path / f"{number}.json")
    total = add_up(Figures.read(tmp_path / f"{number}.json") for number in range(2))
    assert total == Figures({"killed": 3, "hung": 1, "preempted": 4}, 4, 5, [0.5, 1.5, 2.5], [4.0, 5.0], 30.0)
    assert total.num_faults == 8


def test_the_program_says_the_sum(tmp_path):
    for number in range(2):
        Figures({"killed": 5}, 1, 0, [1.0]).write(tmp_path / f"{number}.json")
    argv = [sys.executable, str(RUN), "--sum", *map(str, tmp_path.glob("*.json"))]
    told = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout
    assert told.startswith("10 faults in 2 runs")
    assert "2 recoveries of a group: median 1.00 s, 95 % 1.00 s, longest 1.00 s" in told


def test_the_percentile_is_one_of_the_times():
    times = [float(n) for n in range(1, 101)]
    random.Random(0).shuffle(times)
    assert "median 50.50 s, 95 % 95.00 s, longest 100.00 s" in describe_times("blows", times)
    assert describe_times("blows", []) == ""


def test_preemptions_are_among_the_faults():
    assert sum("preempted" in kind.name for kind in OF_A_CLUSTER) == 3
    assert set(OF_A_CLUSTER) < set(KINDS)
