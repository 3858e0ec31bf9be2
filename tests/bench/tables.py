"""Tables as they are: what `distbp train` makes of each by default, beside scikit-learn on the same rows.

    python tests/bench/tables.py [--splits 3] [--set KEY=VALUE ...] [--only NAME ...] [TABLE:TARGET ...]

Without tables: those in the folder `shared/tables` beside the checkout, and those that scikit-learn bundles. Printed
is accuracy or R2 on the validation rows, a mean over the splits (seeds 0, 1, ...), of

- distbp with its defaults, or with what --set says;
- scikit-learn's MLP with its defaults behind imputer, one-hot encoder and standard scaler, its targets standardized;
- scikit-learn's HistGradientBoosting with its defaults, which takes gaps and categories as they are;
- the share of the largest class of the training rows, or 0: what saying the same of every row is worth.

All get the columns that distbp chose, and the same rows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet
from sklearn import datasets
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, r2_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from distbp import load_run, train
from distbp.config import Config, load_config
from distbp.data import PreparedData, prepare

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "tables"
TARGETS = {
    "penguins.csv": "species",
    "titanic.csv": "survived",
    "churn.parquet": "churn",
    "default.csv": "default",
    "seattle-weather.csv": "weather",
    "diabetes.parquet": "target",
    "cars.csv": "Miles_per_Gallon",
    "diamonds.parquet": "price",
    "gapminder.csv": "lifeExp",
}
BUNDLED = {"iris": datasets.load_iris, "wine": datasets.load_wine, "breast_cancer": datasets.load_breast_cancer}


@dataclass(frozen=True)
class Rows:
    """One split as scikit-learn takes it: columns (N, n) and (N, k), which rows train and which judge."""

    numbers: NDArray
    codes: NDArray
    y: NDArray
    train: NDArray
    judge: NDArray
    is_regression: bool

    @classmethod
    def of(cls, data: PreparedData) -> Rows:
        """Return the rows of prepared data; a code is a category, one that training does not have is -1."""
        assert data.validation is not None
        x, y = data.train.x, data.train.y
        numbers, codes = (x, np.empty((len(x), 0))) if x.dtype.names is None else (x["numbers"], x["codes"])
        is_regression = data.schema.task == "regression"
        return cls(
            numbers.astype(np.float64),
            codes.astype(np.int64) - 1,
            y if y.ndim == 1 or y.shape[1] > 1 else y[:, 0],
            data.train.rows,
            data.validation.rows,
            is_regression,
        )


def main() -> None:
    """Print one line for each table, and the means."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE:TARGET")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--only", action="append", metavar="NAME", help="of the tables named without arguments")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the tables lie that are no argument")
    parser.add_argument("--ours", action="store_true", help="leave scikit-learn out")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn's MLP says of most tables that 200 epochs were too few
    print(f"{'table':<18}{'distbp':>9}{'MLP':>9}{'HGB':>9}{'baseline':>10}{'seconds':>9}")
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        for source, target in find_tables(options, Path(folder)):
            line = compare(source, target, options, folder)
            lines.append(line)
            print(f"{Path(source).name:<18}" + show(line), flush=True)
        print(f"{'mean':<18}" + show(np.mean(lines, axis=0)))


def show(line: NDArray) -> str:
    """Return the figures of one line."""
    return "".join(f"{value:9.3f}" for value in line[:3]) + f"{line[3]:10.3f}{line[4]:9.2f}"


def find_tables(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield path and target of each table; scikit-learn's are written into `folder`."""
    only = options.only
    if options.tables:
        yield from ((source, target) for source, _, target in (name.rpartition(":") for name in options.tables))
        return
    for name, target in TARGETS.items():
        if (options.folder / name).exists() and (not only or name in only):
            yield str(options.folder / name), target
    for name, load in BUNDLED.items():
        if not only or name in only:
            bunch = load()
            columns = dict(zip(map(str, bunch.feature_names), bunch.data.T, strict=True))
            labels = [str(bunch.target_names[number]) for number in bunch.target]
            parquet.write_table(pa.table({**columns, "kind": labels}), folder / f"{name}.parquet")
            yield str(folder / f"{name}.parquet"), "kind"


def compare(source: str, target: str, options: argparse.Namespace, folder: str) -> NDArray:
    """Return the scores of ours, MLP, HGB and the baseline, and our seconds, each a mean over the splits."""
    found = []
    for seed in range(options.splits):
        config = load_config(
            None, [f"data.source={source}", f"data.target={target}", f"seed={seed}", *options.overrides]
        )
        began = time.perf_counter()
        ours = score_ours(config, folder)
        seconds = time.perf_counter() - began
        rows = Rows.of(prepare(config.recipe.data, seed))
        theirs = [np.nan, np.nan] if options.ours else [score_mlp(rows, seed), score_boosting(rows, seed)]
        found.append([ours, *theirs, score_baseline(rows), seconds])
    mean: NDArray = np.mean(found, axis=0)
    return mean


def score_ours(config: Config, folder: str) -> float:
    """Return accuracy or R2 of a run with these settings."""
    placement = config.placement.model_copy(update={"storage": folder, "workers": 1})
    result = train(config.recipe, placement)
    if result.validation_accuracy is not None:
        return result.validation_accuracy
    run = load_run(result.run)
    validation = run.own_data().validation
    assert validation is not None
    predicted = run.predict_examples(validation).outputs
    return float(r2_score(validation.y[validation.rows], predicted))


def score_mlp(rows: Rows, seed: int) -> float:
    """Return the score of scikit-learn's network with its defaults, behind the usual preparation."""
    n = rows.numbers.shape[1]
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    steps = [("numbers", numbers, slice(0, n)), ("codes", encoder, slice(n, n + rows.codes.shape[1]))]
    columns = ColumnTransformer([step for step in steps if step[2].stop > step[2].start])
    x = np.hstack([rows.numbers, rows.codes])
    if rows.is_regression:
        network = make_pipeline(columns, MLPRegressor(random_state=seed))
        return judge(TransformedTargetRegressor(network, transformer=StandardScaler()), x, rows)
    return judge(make_pipeline(columns, MLPClassifier(random_state=seed)), x, rows)


def score_boosting(rows: Rows, seed: int) -> float:
    """Return the score of scikit-learn's boosted trees with their defaults."""
    n, k = rows.numbers.shape[1], rows.codes.shape[1]
    codes = np.where(rows.codes < 0, np.nan, rows.codes)
    kind = HistGradientBoostingRegressor if rows.is_regression else HistGradientBoostingClassifier
    is_category = np.arange(n + k) >= n
    is_category[n:] &= np.array([rows.codes[:, j].max(initial=0) < 255 for j in range(k)], bool)
    return judge(kind(random_state=seed, categorical_features=is_category), np.hstack([rows.numbers, codes]), rows)


def judge(model: object, x: NDArray, rows: Rows) -> float:
    """Return accuracy or R2 of a model, fitted here, on the rows that judge."""
    model.fit(x[rows.train], rows.y[rows.train])  # type: ignore[attr-defined]  # scikit-learn has no types
    predicted = model.predict(x[rows.judge])  # type: ignore[attr-defined]  # as above
    score = r2_score if rows.is_regression else accuracy_score
    return float(score(rows.y[rows.judge], predicted))


def score_baseline(rows: Rows) -> float:
    """Return what is right by saying the same of all rows: 0 for R2."""
    if rows.is_regression:
        return 0.0
    largest = np.bincount(rows.y[rows.train]).argmax()
    return float((rows.y[rows.judge] == largest).mean())


if __name__ == "__main__":
    main()
