"""Chaos: many short runs whose processes are killed, stopped, paused and preempted at random, until so many faults
have happened.

    python tests/chaos/run.py --faults 100 --seed 0
    python tests/chaos/run.py --faults 250 --seed 1 --shared --json part-1.json     then the sum of several parts:
    python tests/chaos/run.py --sum part-*.json

Every run must end with the digest of the undisturbed one, and leave no process, shared memory or temporary file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from chaos_figures import Figures, add_up
from sitting import FAULTS_PER_RUN, run_chaos
from traces import ChaosError


def parse_options() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults-per-run", type=int, default=FAULTS_PER_RUN)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no fault after so many")
    parser.add_argument("--shared", action="store_true", help="one Ray for all drivers, as a cluster: quicker")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, after every run")
    parser.add_argument("--digests", type=Path, metavar="FILE", help="keep the undisturbed runs' digests for next time")
    parser.add_argument("--sum", type=Path, nargs="+", metavar="FILE", help="add up figures; no run is made")
    return parser.parse_args()


def sit(options: argparse.Namespace, folder: Path) -> Figures:
    """Hold one sitting. Raises ChaosError."""
    known: Path | None = options.digests
    expected = json.loads(known.read_text()) if known is not None and known.exists() else {}

    def after_run(figures: Figures) -> None:
        print(f"run {figures.num_runs}: {figures.num_faults} of {options.faults} faults", flush=True)
        if options.json is not None:
            figures.write(options.json)

    figures = run_chaos(
        options.faults,
        options.seed,
        folder,
        options.faults_per_run,
        options.minutes,
        options.shared,
        expected,
        after_run,
    )
    if known is not None:
        known.write_text(json.dumps(expected))
    return figures


def main() -> None:
    options = parse_options()
    if options.sum:
        print(add_up(map(Figures.read, options.sum)).describe())
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is ended
    folder = Path(tempfile.mkdtemp(prefix="distbp-chaos-"))
    try:
        print(sit(options, folder).describe())
    except ChaosError as error:
        sys.exit(f"{error} (seed {options.seed}, runs in {folder})")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
