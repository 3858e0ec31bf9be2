"""Servers of the tests end with the process of the tests, also when that is killed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WATCH = """
read told && exit
kill -TERM "$1" 2>/dev/null
for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  kill -0 "$1" 2>/dev/null || break
  sleep 1
done
kill -KILL "$1" 2>/dev/null
[ -z "$2" ] || rm -rf "$2"
"""


@contextmanager
def ending_with_the_tests(process: subprocess.Popen, folder: Path | str = "") -> Iterator[None]:
    """Let a server get SIGTERM, after 20 s SIGKILL, if this process ends within the block; then remove its folder."""
    argv = ["sh", "-c", _WATCH, "sh", str(process.pid), str(folder)]
    watcher = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        watcher.communicate(b"ended\n")
