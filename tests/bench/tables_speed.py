"""How long a large table of mixed columns takes from file to fitted network, and how much memory, beside scikit-learn.

    python tests/bench/tables_speed.py [--rows 1000000] [--columns 50] [--epochs N] [--only distbp|scikit-learn]

The table is made here: three in five columns are numbers (one in three of them with gaps), the others texts of 4 to 16
categories (one in four with gaps), and the target, yes or no, follows from ten of them with noise. It is written as
Parquet. Each contender then runs in a process of its own, which reads the file and fits:

- distbp: `DistbpClassifier().fit(table, y)`, one worker for each core;
- scikit-learn: imputer, one-hot encoder and standard scaler, then MLPClassifier with its defaults.

Printed are the seconds of the fit, its epochs, its accuracy on 20,000 other rows, and the memory at its peak beyond
that of the process with the table read (MiB). --epochs gives both the same number; without, each does what it does by
default.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

NUM_JUDGED = 20_000
CONTENDERS = ("distbp", "scikit-learn")


def main() -> None:
    """Print one line for each contender."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--epochs", type=int, help="of both; without: what each does by default")
    parser.add_argument("--only", choices=CONTENDERS)
    parser.add_argument("--profile", action="store_true", help="show where the fit's seconds went")
    parser.add_argument("--fit", metavar="FILE", help=argparse.SUPPRESS)  # in the process of one contender
    options = parser.parse_args()
    if options.fit is not None:
        print(json.dumps(fit(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        write_table(path, options.rows + NUM_JUDGED, options.columns)
        print(f"{options.rows:,} rows, {options.columns} columns, {path.stat().st_size / 2**20:.0f} MiB as Parquet")
        print(f"{'':<14}{'seconds':>9}{'epochs':>8}{'accuracy':>10}{'table MiB':>11}{'beyond MiB':>12}")
        for contender in CONTENDERS if options.only is None else (options.only,):
            print(show(contender, run_alone(contender, path, options)), flush=True)


def show(contender: str, found: dict[str, Any]) -> str:
    """Return one line."""
    return (
        f"{contender:<14}{found['seconds']:9.1f}{found['epochs']:8d}{found['accuracy']:10.4f}"
        f"{found['table_mib']:11.0f}{found['beyond_mib']:12.0f}"
    )


def write_table(path: Path, num_rows: int, num_columns: int) -> None:
    """Write a table with the column "bought" as its target."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    draw = np.random.default_rng(0)
    columns: dict[str, pa.Array] = {}
    score = np.zeros(num_rows)
    for number in range(num_columns):
        if number % 5 < 3:
            values = draw.lognormal(number % 4, 1, num_rows)
            effect = np.log(values) - number % 4
            gaps = draw.random(num_rows) < 0.1 if number % 3 == 0 else None
            columns[f"amount_{number}"] = pa.array(values, mask=gaps)
        else:
            codes = draw.integers(4 + number % 13, size=num_rows)
            effect = draw.normal(size=4 + number % 13)[codes]
            gaps = draw.random(num_rows) < 0.1 if number % 4 == 0 else np.zeros(num_rows, bool)
            names = pa.array([f"group {code}" for code in range(4 + number % 13)])
            columns[f"kind_{number}"] = names.take(pa.array(codes, mask=gaps))
        if number < 10:
            score += effect if number % 2 else effect * score.clip(-1, 1) + effect
    chance = 1 / (1 + np.exp(-score))
    columns["bought"] = pa.array(np.where(draw.random(num_rows) < chance, "yes", "no"))
    parquet.write_table(pa.table(columns), path)


def run_alone(contender: str, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one contender, from a process of its own."""
    command = [sys.executable, __file__, "--fit", str(path), "--only", contender]
    command += [] if options.epochs is None else ["--epochs", str(options.epochs)]
    command += ["--profile"] if options.profile else []
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print("\n".join(done.stdout.splitlines()[:-1]), end="")
    return found


def fit(options: argparse.Namespace) -> dict[str, Any]:
    """Read the table, fit, judge; return the figures."""
    import pandas as pd

    make = make_distbp if options.only == "distbp" else make_scikit_learn
    model = make(options.epochs)
    table = pd.read_parquet(options.fit)
    y, x = table.pop("bought").to_numpy(), table
    train, judged = x.iloc[:-NUM_JUDGED], x.iloc[-NUM_JUDGED:]
    warnings.simplefilter("ignore")  # scikit-learn says where its epochs were too few
    watch = MemoryWatch()
    began = time.perf_counter()
    _call(lambda: model.fit(train, y[:-NUM_JUDGED]), options.profile)
    seconds, beyond = time.perf_counter() - began, watch.stop()
    network = model if options.only == "distbp" else model[-1]
    return {
        "seconds": seconds,
        "epochs": network.n_iter_,
        "accuracy": float(model.score(judged, y[-NUM_JUDGED:])),
        "table_mib": watch.before / 2**20,
        "beyond_mib": beyond / 2**20,
    }


def _call(work: Any, is_profiled: bool) -> None:
    if not is_profiled:
        work()
        return
    import cProfile
    import pstats

    profile = cProfile.Profile()
    profile.runcall(work)
    pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(25)


def make_distbp(epochs: int | None) -> Any:
    """Return our estimator with its defaults."""
    from distbp.sklearn import DistbpClassifier

    return DistbpClassifier(max_iter=epochs)


def make_scikit_learn(epochs: int | None) -> Any:
    """Return scikit-learn's usual pipeline in front of its network with its defaults."""
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()),
                make_column_selector("amount_"),
            ),
            ("kinds", OneHotEncoder(handle_unknown="ignore"), make_column_selector("kind_")),
        ]
    )
    return make_pipeline(columns, MLPClassifier(random_state=0, **({} if epochs is None else {"max_iter": epochs})))


class MemoryWatch:
    """Reads this process's resident memory every 20 ms until it is stopped. before: at the start, bytes."""

    def __init__(self) -> None:
        self.before = self._peak = _resident_bytes()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Return the most beyond `before`, in bytes."""
        self._is_over.set()
        self._thread.join()
        return self._peak - self.before

    def _watch(self) -> None:
        while not self._is_over.wait(0.02):
            self._peak = max(self._peak, _resident_bytes())


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
