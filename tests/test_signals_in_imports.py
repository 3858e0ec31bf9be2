"""A signal that comes while a module is imported ends the command as at any other moment, not with another error."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from command_line import hear_signals

SLOW_MODULE = """
import time

class Slow:
    def __set_name__(self, owner, name):
        print("importing", flush=True)
        time.sleep(0.5)

class Owner:
    slow = Slow()

is_whole = True
"""
END_AT_ONCE = """
from distbp.machine.signals import Terminated, end_on_signals

end_on_signals()
try:
    import slow
    import time
    time.sleep(30)
except (Terminated, KeyboardInterrupt) as error:
    import sys
    print(type(error).__name__, sys.modules["slow"].is_whole)
"""
END_WHILE_WAITING = """
from distbp.errors import InterruptedRunError
from distbp.machine.interrupt import stop_on_signals

with stop_on_signals() as request:
    try:
        with request.at_once("stopped while waiting"):
            import slow
            import time
            time.sleep(30)
    except InterruptedRunError as error:
        import sys
        print(type(error).__name__, sys.modules["slow"].is_whole)
"""


@pytest.mark.parametrize(
    ("program", "number", "caught"),
    [
        (END_AT_ONCE, signal.SIGTERM, "Terminated"),
        (END_AT_ONCE, signal.SIGHUP, "Terminated"),
        (END_AT_ONCE, signal.SIGINT, "KeyboardInterrupt"),
        (END_WHILE_WAITING, signal.SIGTERM, "TerminatedRunError"),
        (END_WHILE_WAITING, signal.SIGINT, "InterruptedRunError"),
    ],
)
def test_a_signal_within_an_import_is_heard_once_the_module_is_whole(tmp_path, program, number, caught):
    (tmp_path / "slow.py").write_text(SLOW_MODULE)
    argv = [sys.executable, "-c", f"import sys\nsys.path.append({str(tmp_path)!r})\n{program}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, preexec_fn=hear_signals) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(number)
        rest, _ = process.communicate(timeout=30)
        assert rest.split() == [caught, "True"]
