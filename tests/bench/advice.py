"""Is the advice good? In each case a full grid is measured, and `distbp advise` is held against its best.

A grid is every batch size times every place: one process with 1 and 2 workers, Ray with 1 and 2 workers and servers.
What an option truly takes is steps times seconds of a step: steps to a validation error with rate and momentum
tuned at every batch size, the mean over two seeds, and step times measured apart from the probe's, the mean over two
rounds. Two cases run on two hosts in network namespaces joined by links of limited bandwidth (root; see
tests/hosts/hosts.py), the Fashion-MNIST cases on 10,000 of its images.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "hosts"))

from distbp.backends.ray_cluster import RayCluster, count_cpus  # noqa: E402
from distbp.config import Config, Placement, Recipe  # noqa: E402
from distbp.data import prepare  # noqa: E402
from distbp.study.advice import Option, Placing  # noqa: E402
from distbp.study.advising import make_report  # noqa: E402
from distbp.study.batch_size import search_sizes  # noqa: E402
from distbp.study.probe import choose_batch_sizes, choose_placings, with_choice  # noqa: E402
from distbp.study.session import num_cores, open_lab  # noqa: E402
from distbp.study.step_times import Group, time_group  # noqa: E402
from distbp.study.trial import plan_for  # noqa: E402

FASHION = Path("/usr/share/datasets/fashion-mnist")
NUM_IMAGES = 10_000
SEEDS = (0, 1)
NUM_ROUNDS = 2
TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Case:
    """bandwidth: of the links between two hosts; None is this machine alone."""

    name: str
    data: str
    hidden: tuple[int, ...]
    epochs: int
    bandwidth: str | None = None


CASES = (
    Case("digits, small net", "digits", (64, 32), 20),
    Case("digits, large net", "digits", (512, 512), 20),
    Case("Fashion-MNIST, small net", "fashion", (100,), 5),
    Case("Fashion-MNIST, large net", "fashion", (512, 512), 5),
    Case("digits, large net, 2 hosts at 1 Gbit/s", "digits", (512, 512), 20, "1gbit"),
    Case("digits, large net, 2 hosts at 50 Mbit/s", "digits", (512, 512), 20, "50mbit"),
)


def ignore(_: object) -> None:
    """Show no progress."""


def measure(case: Case, folder: Path, probe_s: float, minutes: float, trials: int) -> dict:
    """Measure the grid of a case and the advice about it."""
    recipe = Recipe.model_validate(
        {"data": _data(case, folder), "model": {"hidden": case.hidden}, "epochs": case.epochs}
    )
    config = Config(recipe=recipe, placement=Placement(address=os.environ.get("RAY_ADDRESS")))
    report = make_report(config, probe_s, True, ignore)
    steps = _search_steps(recipe, folder, minutes, trials)
    grid = _time_grid(config, sorted(steps))
    seconds = {option: steps[option.batch_size] * option.step_s for option in grid}
    best = min(seconds, key=seconds.__getitem__)
    advised = replace(report.advice.option)
    same = [o for o in grid if (o.placing, o.batch_size) == (advised.placing, advised.batch_size)]
    taken = seconds[same[0]] if same else float("nan")
    return {
        "case": case.name,
        "advised": _describe(advised),
        "best": _describe(best),
        "advised_s": taken,
        "best_s": seconds[best],
        "ratio": taken / seconds[best],
        "worst_ratio": max(seconds.values()) / seconds[best],
        "sure": report.advice.sure,
        "headline": report.headline,
        "probe_s": report.probe.seconds,
        "noise_scale": report.probe.noise_scale,
        "steps": steps,
        "grid": [{"option": _describe(option), "step_s": option.step_s, "seconds": s} for option, s in seconds.items()],
    }


def _data(case: Case, folder: Path) -> dict:
    if case.data == "digits":
        return {}
    path = folder.parent / "fashion.npz"
    if not path.exists():
        data = prepare(Recipe.model_validate({"data": {"source": str(FASHION)}}).data, 0)
        rows = np.random.default_rng(0).permutation(len(data.train.x))[:NUM_IMAGES]
        np.savez(path, x=data.train.x[rows], y=data.train.y[rows])
    return {"source": str(path)}


def _search_steps(recipe: Recipe, folder: Path, minutes: float, trials: int) -> dict[int, float]:
    """Return steps to a goal for every power of two between the probe's smallest and largest batch."""
    ends = choose_batch_sizes(len(plan_for(recipe).worker.train))
    sizes = [size for size in (2**power for power in range(31)) if ends[0] <= size <= ends[-1]]
    placement = Placement(backend="local")
    found: dict[int, list[int]] = {}
    for seed in SEEDS:
        seeded = recipe.model_copy(update={"seed": seed})
        with open_lab(folder / str(seed), {"bench": "advice"}, placement, ignore) as lab:
            for size in search_sizes(seeded, sizes, trials, minutes / len(SEEDS), lab).sizes:
                found.setdefault(size.batch_size, []).extend([size.steps] if size.reached else [])
    return {size: statistics.geometric_mean(steps) for size, steps in found.items() if len(steps) == len(SEEDS)}


def _time_grid(config: Config, sizes: list[int]) -> list[Option]:
    """Return every batch size in every place."""
    num_parameters = plan_for(config.recipe).layout.num_parameters
    address = config.placement.address
    found: dict[tuple[Placing, int], list[float]] = {}
    with closing(RayCluster(address, num_cores())):
        placings = choose_placings(num_parameters, count_cpus())
        for _, placing, size in itertools.product(range(NUM_ROUNDS), placings, sizes):
            recipe = with_choice(config.recipe, size, placing.workers)
            group = Group(recipe, placing.backend, placing.workers, placing.servers, (size,), 0.5, address, None)
            found.setdefault((placing, size), []).append(time_group(group).measured[0].parts.step_s)
    return [Option(placing, size, statistics.geometric_mean(times)) for (placing, size), times in found.items()]


def _describe(option: Option) -> str:
    placing: Placing = option.placing
    where = "one process" if placing.backend == "local" else "Ray"
    servers = f" + {placing.servers} servers" if placing.servers > 1 else ""
    return f"{where}, {placing.workers} worker{'s' if placing.workers > 1 else ''}{servers}, batch {option.batch_size}"


def run_case(case: Case, folder: Path, options: argparse.Namespace) -> dict:
    """Measure a case here, or on the first of two hosts."""
    arguments = (options.probe, options.minutes, options.trials)
    if case.bandwidth is None:
        return measure(case, folder, *arguments)
    from hosts import make_hosts
    from ray_hosts import RayOnHosts

    with make_hosts(2, case.bandwidth) as hosts:
        cluster = RayOnHosts(hosts)
        argv = [sys.executable, __file__, "--here", case.name, "--folder", str(folder)]
        argv += ["--probe", str(options.probe), "--minutes", str(options.minutes), "--trials", str(options.trials)]
        done = hosts[0].run(argv, TIMEOUT_S, {**cluster.environment, "RAY_ADDRESS": cluster.address})
    if done.returncode:
        raise SystemExit(f"{case.name} failed: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def show(found: list[dict]) -> None:
    """Print the table."""
    table = Table("case", "advised", "best in the grid", "advised : best", "worst : best", "sure")
    for row in found:
        table.add_row(row["case"], row["advised"], row["best"], f"{row['ratio']:.2f}", f"{row['worst_ratio']:.0f}",
                      f"{100 * row['sure']:.0f} %")  # fmt: skip
    Console(width=150).print(table)


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="", help="numbers of the cases, such as 1,4; all by default")
    parser.add_argument("--probe", type=float, default=45.0, help="seconds of the probe")
    parser.add_argument("--minutes", type=float, default=2.5, help="for the search in each case")
    parser.add_argument("--trials", type=int, default=32, help="rates tried at each batch size")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--here", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the folder and Ray are gone
    if options.here:
        case = next(case for case in CASES if case.name == options.here)
        print(json.dumps(measure(case, options.folder, options.probe, options.minutes, options.trials)))
        return
    chosen = [CASES[int(number) - 1] for number in options.cases.split(",")] if options.cases else CASES
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for case in chosen:  # cases of one network and data share their trials
            name = "-".join([case.data, *map(str, case.hidden)])
            found.append(run_case(case, Path(folder) / name, options))
            print({key: found[-1][key] for key in ("case", "advised", "best", "ratio")}, file=sys.stderr)
            if options.json:
                options.json.write_text(json.dumps(found, indent=1))
    show(found)


if __name__ == "__main__":
    main()
