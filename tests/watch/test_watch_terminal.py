"""The screen in a real terminal: keys, signals, and a terminal that is afterwards as it was before."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from command_line import make_argv

from distbp.watch import RunFeed
from distbp.watch.keyboard import parse_keys
from distbp.watch.live import choose_run
from distbp.watch.state import ToldEvent
from distbp.watch.terminal_view import view_run, view_runs

pytestmark = pytest.mark.slow

DEADLINE_S = 60
ENTER_SCREEN, LEAVE_SCREEN, SHOW_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


class TerminalProgram:
    """`distbp watch` on the far side of a pseudo terminal of 90 columns and 30 lines."""

    def __init__(self, *arguments: str):
        self._near, self.far = pty.openpty()
        termios.tcsetwinsize(self.far, (30, 90))
        self.settings = termios.tcgetattr(self.far)
        command = make_argv("watch", *arguments)
        environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1"}
        self.process = subprocess.Popen(command, stdin=self.far, stdout=self.far, stderr=self.far, env=environment)
        self.output = ""

    def await_text(self, text: str) -> None:
        """Return when the program has written `text` since the last call."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.output:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.output[-3000:]!r}"
            self._gather(0.5)
        self.output = self.output.partition(text)[2]

    def press(self, keys: bytes) -> None:
        os.write(self._near, keys)

    def await_end(self) -> int:
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            self._gather(0.1)
        self._gather(0.0)
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._near)
        os.close(self.far)

    def _gather(self, timeout_s: float) -> None:
        while select.select([self._near], [], [], timeout_s)[0]:
            self.output += os.read(self._near, 65536).decode(errors="replace")
            timeout_s = 0.0


@pytest.fixture
def program(finished, tmp_path) -> Iterator[TerminalProgram]:
    """Watches the same run under the names finished and again."""
    (tmp_path / "again").symlink_to(finished.run)
    program = TerminalProgram(finished.run, str(tmp_path / "again"))
    program.await_text(ENTER_SCREEN)
    program.await_text("q quit")
    yield program
    program.close()


def expect_as_before(program: TerminalProgram) -> None:
    assert termios.tcgetattr(program.far) == program.settings
    assert LEAVE_SCREEN in program.output
    assert SHOW_CURSOR in program.output


def test_keys_switch_between_runs_and_q_ends_it(program):
    assert termios.tcgetattr(program.far)[3] & termios.ECHO == 0
    for keys in (b"\x1b[C", b"1", b"2", b"\x1bOA"):  # right, first, second, up
        program.press(keys)
        program.await_text("▶ 1" if keys in (b"1", b"\x1bOA") else "▶ 2")
    program.press(b"q")
    assert program.await_end() == 0
    expect_as_before(program)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143)])
def test_the_terminal_is_as_before_after_a_signal(program, number, code):
    program.process.send_signal(number)
    assert program.await_end() == code
    expect_as_before(program)


def test_a_stopped_program_gives_the_terminal_back_and_takes_it_again(program):
    program.process.send_signal(signal.SIGTSTP)
    program.await_text(LEAVE_SCREEN)
    _, status = os.waitpid(program.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert termios.tcgetattr(program.far) == program.settings
    program.process.send_signal(signal.SIGCONT)
    program.await_text(ENTER_SCREEN)
    program.await_text("q quit")
    program.press(b"q")
    assert program.await_end() == 0
    expect_as_before(program)


def test_a_terminal_of_another_size_is_filled(program):
    termios.tcsetwinsize(program.far, (20, 50))
    program.process.send_signal(signal.SIGWINCH)
    program.await_text(f"m{'─' * 50}\x1b")


def test_keys_are_told_apart():
    keys = list(parse_keys(b"\x1b[A\x1bOB\x1b[1;5C\x1b[D2q\t\x1b[3~\x1b\xc3\xa9\x00"))
    assert keys == ["up", "down", "right", "left", "2", "q", "right"]
    assert [choose_run(0, key, 3) for key in ("left", "right", "3", "4", "x")] == [2, 1, 2, 0, 0]


@pytest.mark.parametrize(("width", "height"), [(40, 10), (80, 24), (200, 60)])
def test_the_screen_has_the_size_of_the_terminal(finished, width, height):
    states = [replace(RunFeed(finished.run).look(), name=f"run-{number}") for number in range(30)]
    for chosen in (0, 17, 29):
        lines = view_runs(states, chosen, width, height)
        assert len(lines) == height
        assert max(line.cell_len for line in lines) <= width
        assert f"▶{chosen + 1:>2} run-{chosen}" in "\n".join(line.plain for line in lines)


def test_texts_of_a_user_cannot_steer_the_terminal(finished):
    evil = "\x1b]0;title\x07\x1b[2J[bold red]\u202e\x9b31m\nnext"
    state = RunFeed(finished.run).look()
    happened = replace(state.happened, happenings=(ToldEvent(1e300, 3, evil, True),), members=(evil,))
    state = replace(state, name=evil, url=evil, detail=evil, note=evil, digest=evil, happened=happened)
    for line in [*view_runs([state, state], 0, 90, 50), *view_run(state, 90, 50)]:
        assert line.plain.isprintable()
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202e]", line.plain)
    assert any("[bold red]" in line.plain for line in view_run(state, 90, 50))
