"""What a run did after a fault is to be read on a terminal of 80 columns, and a tall one is filled."""

from __future__ import annotations

from distbp.watch.state import RunState, Steps
from distbp.watch.terminal_view import view_run

ACCOUNTS = {"work": 0.62, "waiting": 0.2, "recomputing": 0.0, "checkpoints": 0.08, "waiting for data": 0.1}


def read(state: RunState, width: int, height: int = 24) -> list[str]:
    return [line.plain for line in view_run(state, width, height)]


def test_recoveries_are_told_on_eighty_columns_too():
    state = RunState("one", "runs/one", "running", accounts=ACCOUNTS, accounts_step=3450, recoveries=2)
    text = "\n".join(read(state, 80))
    assert "…" not in text
    assert "waiting for data 10 %" in text
    assert "recovered 2 times   (at step 3,450)" in text


def test_a_wide_terminal_has_them_on_one_line():
    state = RunState("one", "runs/one", "running", accounts=ACCOUNTS, accounts_step=3450, recoveries=2)
    (line,) = [line for line in read(state, 120) if line.startswith("the run")]
    assert line.endswith("waiting for data 10 %   recovered 2 times   (at step 3,450)")


def test_what_took_no_time_takes_no_place():
    accounts = {"work": 0.996, "waiting": 0.0, "recomputing": 0.004}
    assert "the run  work 100 %" in read(RunState("one", "runs/one", "running", accounts=accounts), 80)


def test_curves_are_taller_where_there_is_place(make_line):
    steps = Steps().after([make_line(step, loss=1 / step) for step in range(1, 200)])
    state = RunState("one", "runs/one", "running", steps=steps)
    assert len(read(state, 120, 24)) < len(read(state, 120, 40)) == len(read(state, 120, 60))
