"""The driver's bookkeeping, and signals as a request to stop."""

from __future__ import annotations

import math
import signal
import threading

import pytest

from distbp.config import EarlyStopping
from distbp.errors import CheckpointError, InterruptedRunError, TerminatedRunError
from distbp.machine.interrupt import stop_on_signals
from distbp.protocol.messages import Evaluation, StepReport
from distbp.run.position import Position


def report(step: int, loss: float, num_examples: int) -> StepReport:
    return StepReport(step, 0, loss, num_examples, "0" * 16, True, 0.0, 0.0, 0.0)


def close_epochs(losses: list[float], min_delta: float = 0.0) -> Position:
    position = Position()
    for step, loss in enumerate(losses, start=1):
        position = position.after_step(report(step, 1.0, 1)).after_epoch(Evaluation(loss, 0.5, 10), min_delta)
    return position


def test_train_loss_is_the_mean_over_examples_not_over_steps():
    position = Position().after_step(report(1, 1.0, 30)).after_step(report(2, 2.0, 10)).after_epoch(None, 0.0)
    assert position.train_loss == 1.25
    assert (position.epoch_loss, position.epoch_examples, position.examples) == (0.0, 0, 40)


def test_the_best_epoch_is_the_one_of_the_lowest_loss():
    position = close_epochs([3.0, 1.0, 2.0, 1.0])
    assert (position.best_step, position.best_loss, position.epochs_since_best) == (2, 1.0, 2)
    assert not position.is_best


def test_a_fall_smaller_than_min_delta_does_not_count():
    assert close_epochs([1.0, 0.95], min_delta=0.1).best_step == 1
    assert close_epochs([1.0, 0.85], min_delta=0.1).best_step == 2


def test_an_epoch_without_a_meaningful_loss_is_not_the_best_for_long():
    assert close_epochs([math.nan, 2.0, math.nan, 3.0]).best_step == 2


@pytest.mark.parametrize(("patience", "runs_out"), [(None, False), (3, False), (2, True)])
def test_patience_is_epochs_without_improvement(patience, runs_out):
    position = close_epochs([1.0, 2.0, 2.0])
    assert position.ran_out_of_patience(EarlyStopping(patience=patience)) is runs_out


def test_position_survives_its_journey_through_json():
    position = close_epochs([3.0, 1.0, math.inf])
    assert Position.from_json(position.to_json()) == position


@pytest.mark.parametrize("change", [{"step": "three"}, {"best_loss": [1.0]}, {"epochs_evaluated": None}, {"step": -1}])
def test_a_position_that_was_not_written_by_us_is_refused(change):
    with pytest.raises(CheckpointError, match="position is not one that distbp wrote"):
        Position.from_json({**Position().to_json(), **change})


def test_a_position_of_a_version_with_more_or_fewer_fields_is_read():
    values = {**Position(step=3).to_json(), "surplus": 1}
    del values["recoveries"]
    assert Position.from_json(values) == Position(step=3)


@pytest.mark.parametrize("name", ["step", "epoch_loss", "epoch_examples", "epochs_evaluated"])
def test_a_position_without_what_the_next_step_needs_is_refused(name):
    values = Position().to_json()
    del values[name]
    with pytest.raises(CheckpointError, match="position is not one that distbp wrote"):
        Position.from_json(values)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, InterruptedRunError), (signal.SIGTERM, TerminatedRunError)]
)
def test_a_signal_is_a_request(number, error):
    with stop_on_signals() as stop:
        assert not stop
        signal.raise_signal(number)
        assert stop
        assert type(stop.error("stopped")) is error


def test_a_second_ctrl_c_interrupts_at_once():
    with stop_on_signals():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_outside_the_main_thread_no_handler_is_touched():
    found = []

    def enter() -> None:
        with stop_on_signals() as stop:
            found.append((bool(stop), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(timeout=10)
    assert found == [(False, signal.getsignal(signal.SIGINT))]
