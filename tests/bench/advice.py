"""Is the advice good? In each case a full grid is measured, and `distbp advise` is held against its best.

A grid is every batch size times every place: one process with 1 and 2 workers, Ray with 1 and 2 workers and servers.
What an option truly takes is steps times seconds of a step: steps to a validation error with rate and momentum
tuned at every batch size, the mean over six seeds, and step times measured apart from the probe's, the median of
three rounds. Two cases run on two hosts in network namespaces joined by links of limited bandwidth (root; see
tests/hosts/hosts.py), the Fashion-MNIST cases on 10,000 of its images. A grid is measured once (about half an hour for
all six; `--grids` takes it from an earlier `--json`), advice asked for as often as `--probes` says.
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
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "hosts"))

from distbp.advise.advice import Option, Placing  # noqa: E402
from distbp.advise.evidence import choose_batch_sizes, choose_placings, with_choice  # noqa: E402
from distbp.advise.telling import make_report  # noqa: E402
from distbp.backends.ray.cluster import RayCluster, count_cpus  # noqa: E402
from distbp.config import Config, Placement, Recipe  # noqa: E402
from distbp.data import prepare  # noqa: E402
from distbp.lab.session import open_lab  # noqa: E402
from distbp.lab.step_times import Group, time_group  # noqa: E402
from distbp.lab.trial import plan_for  # noqa: E402
from distbp.machine.cores import count_cores  # noqa: E402
from distbp.study.batch_size.study import search_sizes  # noqa: E402

FASHION = Path("/usr/share/datasets/fashion-mnist")
NUM_IMAGES = 10_000
SEEDS = range(6)
NUM_ROUNDS = 3
TIMEOUT_S = 3600.0


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


def measure_grid(case: Case, folder: Path, options: argparse.Namespace) -> dict:
    """Return tuned steps by batch size, and every option with what a step and all of them take, the fastest first."""
    config = _configure(case, folder)
    steps = _search_steps(config.recipe, folder, options.minutes, options.trials)
    grid = [
        {
            "option": _describe(option.placing, option.batch_size),
            "step_s": option.step_s,
            "seconds": steps[option.batch_size] * option.step_s,
        }
        for option in _time_grid(config, sorted(steps))
    ]
    return {"case": case.name, "steps": steps, "grid": sorted(grid, key=lambda row: row["seconds"])}


def ask(case: Case, folder: Path, options: argparse.Namespace) -> dict:
    """Return one piece of advice, and from what it followed."""
    report = make_report(_configure(case, folder), options.probe, True, ignore)
    found, advice = report.evidence, report.advice
    return {
        "advised": _describe(advice.option.placing, advice.option.batch_size),
        "headline": report.headline,
        "sure": advice.sure,
        "probe_s": found.seconds,
        "noise_scale": found.noise_scale,
        "critical": asdict(found.critical),
        "tuned": [asdict(tuned) for tuned in found.tuned],
        "step_s": {
            _describe(Placing(backend, m.setting.workers, m.setting.servers), m.setting.batch_size): m.parts.step_s
            for backend, m in found.measured
        },
    }


def _configure(case: Case, folder: Path) -> Config:
    recipe = Recipe.model_validate(
        {"data": _data(case, folder), "model": {"hidden": case.hidden}, "epochs": case.epochs}
    )
    return Config(recipe=recipe, placement=Placement(address=os.environ.get("RAY_ADDRESS")))


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
    with closing(RayCluster(address, count_cores())):
        placings = choose_placings(num_parameters, count_cpus())
        for _, placing, size in itertools.product(range(NUM_ROUNDS), placings, sizes):
            recipe = with_choice(config.recipe, size, placing.workers)
            group = Group(recipe, placing.backend, placing.workers, placing.servers, (size,), 0.3, address, None)
            found.setdefault((placing, size), []).append(time_group(group).measured[0].parts.step_s)
    return [Option(placing, size, statistics.median(times)) for (placing, size), times in found.items()]


def _describe(placing: Placing, batch_size: int) -> str:
    where = "one process" if placing.backend == "local" else "Ray"
    servers = f" + {placing.servers} servers" if placing.servers > 1 else ""
    return f"{where}, {placing.workers} worker{'s' if placing.workers > 1 else ''}{servers}, batch {batch_size}"


TASKS = {"grid": measure_grid, "ask": ask}


def run(task: str, case: Case, folder: Path, options: argparse.Namespace) -> dict:
    """Carry out a task for a case here, or on the first of two hosts."""
    if case.bandwidth is None:
        return TASKS[task](case, folder, options)
    from hosts import make_hosts
    from ray_hosts import RayOnHosts

    with make_hosts(2, case.bandwidth) as hosts:
        cluster = RayOnHosts(hosts)
        argv = [sys.executable, __file__, "--here", task, case.name, "--folder", str(folder)]
        for name in ("probe", "minutes", "trials"):
            argv += [f"--{name}", str(getattr(options, name))]
        done = hosts[0].run(argv, TIMEOUT_S, {**cluster.environment, "RAY_ADDRESS": cluster.address})
    if done.returncode:
        raise SystemExit(f"{case.name} failed: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def judge(grid: dict, asked: dict) -> dict:
    """Return the advice with how many times longer it takes than the best in the grid."""
    taken = [row["seconds"] for row in grid["grid"] if row["option"] == asked["advised"]]
    return {**asked, "ratio": taken[0] / grid["grid"][0]["seconds"] if taken else float("inf")}


def show(found: list[dict]) -> None:
    """Print the table."""
    table = Table("case", "advised", "best in the grid", "advised : best", "worst : best", "sure")
    for row in found:
        best, worst = row["grid"][0], row["grid"][-1]
        for asked in row["asked"]:
            table.add_row(row["case"], asked["advised"], best["option"], f"{asked['ratio']:.2f}",
                          f"{worst['seconds'] / best['seconds']:.0f}", f"{100 * asked['sure']:.0f} %")  # fmt: skip
    Console(width=150).print(table)


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="", help="numbers of the cases, such as 1,4; all by default")
    parser.add_argument("--probe", type=float, default=55.0, help="seconds of a probe")
    parser.add_argument("--probes", type=int, default=1, help="how often advice is asked for in each case")
    parser.add_argument("--minutes", type=float, default=6.0, help="for the search in each case, at most")
    parser.add_argument("--trials", type=int, default=24, help="rates tried at each batch size")
    parser.add_argument("--grids", type=Path, help="JSON of an earlier run whose grids are taken")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--here", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the folder and Ray are gone
    if options.here:
        task, name = options.here
        print(json.dumps(TASKS[task](next(case for case in CASES if case.name == name), options.folder, options)))
        return
    chosen = [CASES[int(number) - 1] for number in options.cases.split(",")] if options.cases else CASES
    known = {row["case"]: row for row in json.loads(options.grids.read_text())} if options.grids else {}
    found = []
    with tempfile.TemporaryDirectory() as root:
        for case in chosen:  # cases of one network and data share their trials
            folder = Path(root) / "-".join([case.data, *map(str, case.hidden)])
            grid = known.get(case.name) or run("grid", case, folder, options)
            found.append({**grid, "asked": []})
            for _ in range(options.probes):
                found[-1]["asked"].append(judge(grid, run("ask", case, folder, options)))
                print(case.name, {k: found[-1]["asked"][-1][k] for k in ("advised", "ratio")}, file=sys.stderr)
                if options.json:
                    options.json.write_text(json.dumps(found, indent=1))
    show(found)


if __name__ == "__main__":
    main()
