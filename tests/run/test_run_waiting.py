"""Every wait of a driver's own answers a signal within a moment."""

from __future__ import annotations

import signal
import threading

from distbp.machine.interrupt import StopRequest


def test_a_pause_ends_with_a_signal():
    stop = StopRequest()
    timer = threading.Timer(0.05, stop.receive, (signal.SIGTERM, None))
    timer.start()
    stop.pause(1e6)
    assert stop
    timer.join()


def test_a_pause_without_a_signal_lasts_as_long_as_asked():
    stop = StopRequest()
    stop.pause(0.0)
    stop.pause(0.01)
    assert not stop


def test_a_wait_is_over_when_one_more_signal_comes():
    stop = StopRequest()
    stop.receive(signal.SIGTERM, None)
    must_end = stop.watch()
    assert not must_end()
    stop.receive(signal.SIGTERM, None)
    assert must_end()
