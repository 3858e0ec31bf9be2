"""Which recipe a recipe is: a digest of what was set away from the defaults, that later versions compute as well.

A recipe may grow. What a field was when it first appeared is in FIRST_DEFAULTS, and stays there: a value counts as set
where it differs from that. So a new field changes no digest, and a default that changes later does: new defaults are a
new recipe. What a run stored without a field is read with the field's first default, so an old run keeps its meaning.
Two rules follow for whoever adds a field: its first default does what was done without it, and is entered here.

Where the data lie is no part of it. What they are is known by their own fingerprint (`distbp.data.fingerprint`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

DEFAULTS_OF_0_1_0: Mapping[str, Any] = {
    "data.source": "digits",
    "data.target": None,
    "data.task": None,
    "data.validation": 0.2,
    "data.scaling": "min-max",
    "model.hidden": [64, 32],
    "model.activation": "relu",
    "model.loss": "cross_entropy",
    "model.init": "he",
    "model.dropout": 0.0,
    "model.function": None,
    "model.options": {},
    "optimizer.learning_rate": 0.1,
    "optimizer.momentum": 0.9,
    "optimizer.nesterov": False,
    "optimizer.weight_decay": 0.0,
    "optimizer.clip_norm": None,
    "schedule.kind": "constant",
    "schedule.warmup_steps": 0,
    "schedule.decay_epochs": 10,
    "schedule.decay_factor": 0.1,
    "schedule.final_fraction": 0.0,
    "schedule.lr_scaling": "none",
    "schedule.reference_batch_size": None,
    "early_stopping.patience": None,
    "early_stopping.min_delta": 0.0,
    "global_batch_size": 64,
    "microbatch_size": 8,
    "epochs": 20,
    "seed": 0,
    "dtype": "float32",
}
FIRST_DEFAULTS: Mapping[str, Any] = {
    **DEFAULTS_OF_0_1_0,
    "data.window_blocks": 4,
    "model.loss_per": "example",
    "model.torch": None,
    "model.initial": None,
    "optimizer.kind": "sgd",
    "optimizer.betas": [0.9, 0.999],
    "optimizer.eps": 1e-8,
    "optimizer.decay_groups": {},
    "rounds.steps": None,
    "rounds.replicas": 4,
    "rounds.outer.learning_rate": 0.7,
    "rounds.outer.momentum": 0.9,
    "rounds.outer.nesterov": True,
    "data.columns": None,
    "data.target_scaling": "none",
    "data.weight": None,
    "data.class_weights": None,
    "early_stopping.monitor": "loss",
}
"""The default that each field had in the version that introduced it. Entries are added, never changed."""
LEFT_TO_THE_DATA: Mapping[str, Any] = {
    "data.columns": {},
    "data.target_scaling": "auto",
    "model.loss": None,
    "optimizer.clip_norm": "auto",
    "schedule.kind": "auto",
}
"""What a field is that nobody has set, where the data decide (`distbp.config.settling`). What is trained and stored is
always settled. A recipe that is not counts as one for arrays, for which each of these is the first default."""
DIGEST_FORMAT = 1
"""Of what is hashed."""


def identify(recipe: BaseModel) -> str:
    """Return the SHA-256 of what `recipe` sets away from the first defaults; where the data lie does not matter."""
    values = _without_places(_settle_for_arrays(dict(flatten(recipe))))
    firsts = {**dict(_flatten_defaults(type(recipe))), **FIRST_DEFAULTS}
    away = {name: value for name, value in values.items() if value != firsts[name]}
    return _digest({"format": DIGEST_FORMAT, "set": away})


def identify_as_0_1_0(recipe: BaseModel) -> str:
    """Return the digest that version 0.1.0 gave the same recipe: of all its fields, with the places of the data."""
    settled = _settle_for_arrays(dict(flatten(recipe)))
    values = {name: value for name, value in settled.items() if name in DEFAULTS_OF_0_1_0}
    return _digest(nest(values))


def complete(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored recipe with the first default of every field that it does not have, as it was meant."""
    return _merge(nest(FIRST_DEFAULTS), stored)


def flatten(section: BaseModel, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the JSON value of every field."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from flatten(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", section.model_dump(mode="json", include={name})[name]


def _settle_for_arrays(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with the first default where the data would decide."""
    left = {name for name, value in LEFT_TO_THE_DATA.items() if name in values and values[name] == value}
    return {name: FIRST_DEFAULTS[name] if name in left else value for name, value in values.items()}


def _flatten_defaults(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Yield the fields' defaults of today, which matter only to a field that is not in FIRST_DEFAULTS yet."""
    yield from flatten(model())


def _without_places(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values without the paths among them: of the data, of validation data, of the targets' .npy file."""
    del values["data.source"]
    if isinstance(values["data.validation"], str):
        values["data.validation"] = "a file"
    target = values["data.target"]
    if isinstance(target, str) and target.endswith(".npy"):
        values["data.target"] = None
    return values


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return sections of values from values by their paths, such as "optimizer.momentum"."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *sections, last = name.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return nested


def _merge(defaults: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return `stored` with what it lacks; what has keys of its own, such as options, is taken whole."""
    merged = {**defaults, **stored}
    for name, default in defaults.items():
        if isinstance(default, Mapping) and default and isinstance(merged[name], Mapping):
            merged[name] = _merge(default, merged[name])
    return merged


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
