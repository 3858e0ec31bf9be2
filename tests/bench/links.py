"""What rounds send and how long their steps take on hosts with slow links, beside what `distbp study links` computes.

Needs root on Linux (see tests/hosts/hosts.py). See links_programs.py for how hosts that share cores are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from distbp.config import Recipe
from distbp.lab.timing import time_step
from distbp.study.links.cost import Links, Way, bytes_of_commit, seconds_of_steps

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "hosts"))

from hosts import make_hosts, reason_to_skip  # noqa: E402 - found by the path above
from ray_hosts import RayOnHosts  # noqa: E402

LAYERS, BATCH = (784, 512, 512, 10), 512
NUM_PARAMETERS = sum((inputs + 1) * outputs for inputs, outputs in pairwise(LAYERS))
FASHION_MNIST = "/usr/share/datasets/fashion-mnist"
TIMEOUT_S = 600.0


def time_part(num_examples: int) -> float:
    """Return the seconds of a step with so many examples on one core."""
    return time_step(
        Recipe(
            data={"source": FASHION_MNIST, "validation": 0.0},
            model={"hidden": list(LAYERS[1:-1])},
            optimizer={"learning_rate": 1e-9},
            global_batch_size=num_examples,
            microbatch_size=num_examples,
        )
    ).step_s


def measure(num_hosts: int, mbit: int, lengths: list[int], part_s: float) -> list[dict]:
    """Return what was measured and what is computed for every length of a round; 0 commits every step."""
    found = []
    with make_hosts(num_hosts, f"{mbit}mbit") as hosts:
        cluster = RayOnHosts(hosts, variables={"PYTHONPATH": os.pathsep.join([str(HERE), os.environ["PYTHONPATH"]])})
        environment = {**cluster.environment, "RAY_ADDRESS": cluster.address}
        for length in lengths:
            num_rounds = 16 if length == 0 else max(3, 60 // length)
            arguments = [NUM_PARAMETERS, num_hosts, length, num_rounds, round(1e6 * part_s)]
            argv = [sys.executable, str(HERE / "links_programs.py"), *map(str, arguments)]
            done = hosts[0].run(argv, TIMEOUT_S, environment)
            if done.returncode:
                raise SystemExit(f"{' '.join(argv)} failed: {done.stderr[-2000:]}")
            found.append(
                {
                    "steps": length,
                    **json.loads(done.stdout.splitlines()[-1]),
                    **compute(num_hosts, mbit, length, part_s),
                }
            )
            print(found[-1], file=sys.stderr)
    return found


def compute(num_hosts: int, mbit: int, length: int, part_s: float) -> dict[str, float]:
    """Return what the study's cost model says of a step."""
    way = Way(BATCH, num_hosts, length or None, num_hosts)
    num_bytes = 4 * NUM_PARAMETERS
    return {
        "computed_step_s": seconds_of_steps(way, length or 1, part_s, num_bytes, Links(num_hosts, mbit))
        / (length or 1),
        "computed_bytes_a_step": bytes_of_commit(num_bytes, num_hosts) / (length or 1),
    }


def show(report: dict) -> None:
    """Print a line for each length of a round."""
    title = f"{report['hosts']} hosts at {report['mbit']} Mbit/s, {LAYERS}, batch {BATCH}; {report['processor']}"
    table = Table(
        "steps a round", "ms a step", "computed", "MB sent a step", "computed", "of every step's", title=title
    )
    first = report["found"][0]["sent_bytes_a_step"]
    for one in report["found"]:
        table.add_row(
            str(one["steps"] or "every step"),
            f"{1e3 * one['step_s']:.1f}",
            f"{1e3 * one['computed_step_s']:.1f}",
            f"{one['sent_bytes_a_step'] / 1e6:.3f}",
            f"{one['computed_bytes_a_step'] / 1e6:.3f}",
            f"1/{first / one['sent_bytes_a_step']:.1f}",
        )
    Console(width=120).print(table)


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--mbit", type=int, default=50)
    parser.add_argument("--steps", default="0,5,20,100", help="steps a round, 0: every step is committed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if reason := reason_to_skip():
        raise SystemExit(reason)
    os.environ.setdefault("PYTHONPATH", str(HERE.parent.parent))
    part_s = time_part(BATCH // options.hosts)
    report = {
        "hosts": options.hosts,
        "mbit": options.mbit,
        "part_s": part_s,
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "found": measure(options.hosts, options.mbit, [int(part) for part in options.steps.split(",")], part_s),
    }
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
