"""The whole speed table: every program on every case, round by round, medians and ratios."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from cases import CASES
from programs import PROGRAMS
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
RATIOS = {
    "Ray 2 workers : torch DDP 2 processes": ("torch DDP gloo 2", ["distbp ray 2"]),
    "local : best of torch, scikit-learn, JAX": (
        "best peer",
        ["distbp local 1", "distbp local 2"],
    ),
    "Ray 2 workers : local 1": ("distbp local 1", ["distbp ray 2"]),
    "local 2 : local 1": ("distbp local 1", ["distbp local 2"]),
    "part of the two-core matmul limit, local 2": ("half matmuls", ["distbp local 2"]),
    "cost of exactness, 4 (2) microbatches : one piece": ("distbp local 1", ["distbp local 1, one piece"]),
}


def measure(program: str, case: str, environment: dict[str, str]) -> float | None:
    """Return seconds a step, None where the program cannot run here."""
    done = subprocess.run(
        [sys.executable, str(HERE / "programs.py"), program, case], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        print(f"{program} on {case} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return float(done.stdout.split()[-1])


def measure_all(cases: list[str], programs: list[str], rounds: int) -> dict[str, dict[str, float]]:
    """Return the median seconds a step by case and program."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    medians: dict[str, dict[str, float]] = {}
    for case in cases:
        found: dict[str, list[float]] = {program: [] for program in programs}
        for number in range(rounds):
            for program in programs:
                seconds = measure(program, case, environment)
                if seconds is not None:
                    found[program].append(seconds)
                print(f"{case} round {number + 1}/{rounds} {program}: {seconds}", file=sys.stderr)
        medians[case] = {program: statistics.median(times) for program, times in found.items() if times}
    return medians


def ratios(times: dict[str, float]) -> dict[str, float]:
    """Return how many times faster ours is, for each comparison that was measured."""
    peers = [times[p] for p in ("torch 1 thread", "torch 2 threads", "scikit-learn", "JAX") if p in times]
    known = dict(times)
    if peers:
        known["best peer"] = min(peers)
    if "matmuls, 1 core" in times:
        known["half matmuls"] = times["matmuls, 1 core"] / 2
    found = {}
    for name, (peer, ours) in RATIOS.items():
        mine = [known[program] for program in ours if program in known]
        if peer in known and mine:
            found[name] = known[peer] / min(mine)
    return found


def show(medians: dict[str, dict[str, float]], programs: list[str]) -> None:
    """Print times in milliseconds and ratios."""
    table = Table("ms a step", *medians, title=f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    for program in programs:
        table.add_row(program, *(_format(times.get(program), 1e3) for times in medians.values()))
    table.add_section()
    by_case = {case: ratios(times) for case, times in medians.items()}
    for name in RATIOS:
        table.add_row(name, *(_format(found.get(name), 1) for found in by_case.values()))
    Console(width=140).print(table)


def _format(value: float | None, scale: float) -> str:
    return "-" if value is None else f"{value * scale:.3g}"


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--programs", default=",".join(PROGRAMS).replace(", ", "; "))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    programs = [name.replace("; ", ", ") for name in options.programs.split(",")]
    medians = measure_all(options.cases.split(","), programs, options.rounds)
    show(medians, programs)
    if options.json:
        report = {"machine": platform.platform(), "cores": os.cpu_count(), "seconds_per_step": medians}
        report["ratios"] = {case: ratios(times) for case, times in medians.items()}
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
