"""Seconds from process start: `distbp --help`, the first step on the digits in one process, and on a private Ray."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

FIRST_STEP = """
import sys, time
from distbp import Placement, Recipe, train
class FirstStep(Exception):
    pass
def observe(_):
    print("FIRST", time.time(), flush=True)
    raise FirstStep
try:
    train(Recipe(), Placement(backend=sys.argv[1], storage=sys.argv[2]), observe=observe)
except FirstStep:
    pass
"""
ROUNDS = 5


def time_help() -> float:
    """Return how long `distbp --help` takes."""
    began = time.time()
    subprocess.run([sys.executable, "-m", "distbp", "--help"], check=True, capture_output=True)
    return time.time() - began


def time_first_step(backend: str) -> float:
    """Return how long it is from process start to the report of the first step."""
    with tempfile.TemporaryDirectory() as storage:
        began = time.time()
        command = [sys.executable, "-c", FIRST_STEP, backend, storage]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split("FIRST")[1].split()[0]) - began


def main() -> None:
    """Measure and print medians."""
    programs = {
        "distbp --help": time_help,
        "first step, local": lambda: time_first_step("local"),
        "first step, Ray with 2 workers": lambda: time_first_step("ray"),
    }
    for name, program in programs.items():
        seconds = [program() for _ in range(ROUNDS)]
        print(f"{name:32} {statistics.median(seconds):.2f} s ({min(seconds):.2f}-{max(seconds):.2f})")


if __name__ == "__main__":
    main()
