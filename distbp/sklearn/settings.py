"""From an estimator's parameters to a recipe and a placement: which is which, and what may stand beside them."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from distbp.config import Placement, Recipe, parse_config
from distbp.config.identity import nest
from distbp.config.settling import FEWEST_STEPS, MOST_EPOCHS, choose_table_batch
from distbp.errors import ConfigError

Task = Literal["classification", "regression"]
DEFAULTS = Recipe()
FIELDS = {
    "hidden_layer_sizes": "model.hidden",
    "activation": "model.activation",
    "solver": "optimizer.kind",
    "alpha": "optimizer.weight_decay",
    "learning_rate": "schedule.kind",
    "learning_rate_init": "optimizer.learning_rate",
    "momentum": "optimizer.momentum",
    "nesterovs_momentum": "optimizer.nesterov",
    "max_iter": "epochs",
    "batch_size": "global_batch_size",
    "validation_fraction": "data.validation",
    "n_iter_no_change": "early_stopping.patience",
    "tol": "early_stopping.min_delta",
    "monitor": "early_stopping.monitor",
    "random_state": "seed",
}
"""The parameters that have another name than the field of the recipe that they set."""

_OWN = (*FIELDS.values(), "data.source", "data.target", "data.task")
_PLACES = ("workers", "backend", "address")


def make_recipe(
    parameters: Mapping[str, Any], seed: int, num_examples: int, task: Task, is_table: bool = False
) -> Recipe:
    """Return the recipe of an estimator with these parameters for `num_examples` examples, held-out ones included.

    seed: what random_state comes to. is_table: the examples' columns have kinds. What `task` and the data decide is
    left to `distbp.config.settling`.

    Raises ConfigError for a value that is none, naming the parameter.
    """
    values = nest({FIELDS[name]: _plain(parameters[name]) for name in FIELDS})
    if values["optimizer"]["weight_decay"] is None:  # then the data decide
        del values["optimizer"]["weight_decay"]
    values["seed"] = seed
    values["data"] = {"source": "memory", "validation": 0.0, "task": task}
    _set_early_stopping(values, parameters)
    _set_network(values)
    _set_batch(values, num_examples, is_table)
    if values["epochs"] is None:
        values["epochs"] = _choose_epochs(values["global_batch_size"], num_examples)
    more = _read_more(parameters["recipe"])
    with _naming_parameters():
        return parse_config({"recipe": _merge(values, more)}, "the estimator").recipe


def make_placement(parameters: Mapping[str, Any]) -> Placement:
    """Return where an estimator with these parameters trains.

    An address means Ray. In a process that another one started, such as joblib's for n_jobs, there is one worker unless
    `workers` says otherwise, and a private Ray cluster is not started: its place is taken by threads, which compute
    the same bytes.
    """
    given = parameters["placement"]
    values = given.model_dump(exclude_unset=True) if isinstance(given, Placement) else dict(given or {})
    values |= {name: _plain(parameters[name]) for name in _PLACES if parameters[name] is not None}
    if values.get("address") is not None:
        values.setdefault("backend", "ray")
    if multiprocessing.parent_process() is not None:
        values = {"workers": 1, **values}
        if values.get("address") is None:
            values["backend"] = "local"
    with _naming_parameters():
        return parse_config({"placement": values}, "the estimator").placement


def named_columns(parameters: Mapping[str, Any]) -> Collection[str]:
    """Return the columns whose kind `recipe` names; what is wrong with it is told when it is read."""
    data = parameters["recipe"].get("data") if isinstance(parameters["recipe"], Mapping) else None
    columns = data.get("columns") if isinstance(data, Mapping) else None
    return list(map(str, columns)) if isinstance(columns, Mapping) else ()


def keeps_run(parameters: Mapping[str, Any]) -> bool:
    """Return whether the placement names a storage, so that the run is to be kept there."""
    given = parameters["placement"]
    named = given.model_fields_set if isinstance(given, Placement) else set(given or {})
    return "storage" in named


@contextmanager
def _naming_parameters() -> Iterator[None]:
    """Call a field by the parameter that sets it, in what is said of a wrong value."""
    try:
        yield
    except ConfigError as error:
        names = {f"recipe.{field}": name for name, field in FIELDS.items()}
        names |= {f"placement.{name}": name for name in _PLACES}
        pattern = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        raise ConfigError(re.sub(rf"({pattern})\b", lambda found: names[found[0]], str(error))) from None


def _set_early_stopping(values: dict[str, Any], parameters: Mapping[str, Any]) -> None:
    if parameters["early_stopping"]:
        values["data"]["validation"] = _plain(parameters["validation_fraction"])
    else:
        del values["early_stopping"]


def _set_network(values: dict[str, Any]) -> None:
    model = values["model"]
    if isinstance(model["hidden"], int):  # as MLPClassifier takes it, too
        model["hidden"] = (model["hidden"],)
    if model["activation"] == "logistic":
        model["activation"] = "sigmoid"


def _set_batch(values: dict[str, Any], num_examples: int, is_table: bool) -> None:
    """Fill in the size of a batch, at most all training examples, and scale the penalty to it as scikit-learn does."""
    num_train = num_examples
    if isinstance(fraction := values["data"]["validation"], float) and 0 < fraction < 1:
        num_train -= round(fraction * num_examples)
    size = values["global_batch_size"]
    if size == "auto":
        size = DEFAULTS.global_batch_size
        size = choose_table_batch(size, num_train) if is_table else size
    if isinstance(size, int):
        size = values["global_batch_size"] = min(size, max(num_train, 1))
    optimizer = values["optimizer"]
    if optimizer["kind"] == "sgd" and isinstance(size, int) and size > 0 and optimizer.get("weight_decay"):
        optimizer["weight_decay"] /= size  # its penalty is alpha / 2 * sum(W^2) / batch size


def _choose_epochs(batch_size: object, num_examples: int) -> int:
    """Return the epochs that max_iter=None stands for: the recipe's default, more where the examples are few."""
    steps = -(-num_examples // batch_size) if isinstance(batch_size, int) and batch_size > 0 else 1
    return max(DEFAULTS.epochs, min(MOST_EPOCHS, -(-FEWEST_STEPS // steps)))


def _read_more(recipe: object) -> dict[str, Any]:
    """Return what `recipe` sets beside the parameters; raises ValueError for what a parameter sets."""
    if recipe is None:
        return {}
    if not isinstance(recipe, Mapping):
        raise ValueError(
            f"recipe is a {type(recipe).__name__}; expected a mapping of what no parameter sets, such as "
            "{'dtype': 'float64', 'model': {'dropout': 0.1}}"
        )
    names = {field: name for name, field in FIELDS.items()}
    for path in _paths(recipe):
        if path in _OWN:
            raise ValueError(f"recipe sets {path}, and that is what {names.get(path, 'fit(X, y)')} says; leave it out")
    return dict(recipe)


def _paths(values: Mapping[str, Any], above: str = "") -> list[str]:
    paths = []
    for name, value in values.items():
        is_section = isinstance(value, Mapping) and name not in ("options", "decay_groups")
        paths += _paths(value, f"{above}{name}.") if is_section else [f"{above}{name}"]
    return paths


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return both, section by section; where both have a value, that of `above`."""
    merged = dict(below)
    for name, value in above.items():
        both = isinstance(value, Mapping) and isinstance(below.get(name), Mapping)
        merged[name] = _merge(below[name], value) if both else value
    return merged


def _plain(value: Any) -> Any:
    """Return Python's own number for one of NumPy's, also inside lists: what a search over a grid hands over."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
