"""From a run to its network and to the examples that it is explained with."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from distbp.data import as_source, read_examples
from distbp.errors import ConfigError, DataError, DivergedError
from distbp.explain.network import Network
from distbp.explain.population import Population
from distbp.explain.units import find_units
from distbp.prediction.trained_run import TrainedRun
from distbp.protocol.examples import Examples
from distbp.protocol.supply import in_memory
from distbp.text.sentences import find_near
from distbp.training.plan import initial_parameters, model_spec
from distbp.training.plan_data import along_run

PARTS = ("training", "validation")


def open_network(trained: TrainedRun) -> Network:
    """Return the network of a run.

    Raises ConfigError if it is a user's own model, DivergedError if it is not finite.
    """
    spec = model_spec(trained.config.recipe, trained.schema)
    own = spec.config.torch or spec.config.function
    if own is not None:
        raise ConfigError(
            f"'{trained.run.url}' trained the model {own}, which distbp cannot look into; "
            "explain needs a run of the built-in network"
        )
    if spec.has_many_labels:
        raise ConfigError(
            f"'{trained.run.url}' predicts several targets of two classes each, which explain does not show; train on "
            "one of them"
        )
    flat = np.concatenate([tensor.ravel() for tensor in trained.parameters.values()]).astype(np.float64)
    if not np.isfinite(flat).all():
        raise DivergedError(
            f"the parameters of '{trained.run.url}' after step {trained.step} are not finite, so there is nothing to "
            "explain; name an earlier one with --step"
        )
    sizes = (spec.num_inputs, *spec.config.hidden, spec.num_outputs)
    return Network(spec.config, spec.is_classification, sizes, flat, find_units(trained.schema))


def draw_untrained(trained: TrainedRun) -> Network:
    """Return the network as it was before the first step: drawn from the recipe's seed, or the weights it names."""
    recipe = trained.config.recipe
    flat = initial_parameters(recipe, model_spec(recipe, trained.schema))
    return replace(open_network(trained), flat=flat.astype(np.float64))


def gather(trained: TrainedRun, data: str) -> Population:
    """Return the examples of one part of the run's data, or of another source. Raises DataError if there are none."""
    recipe, schema, data = trained.config.recipe, trained.schema, as_source(data)
    if data in PARTS:
        prepared = along_run(trained.own_data(), trained.config, num_steps=1)
        part = prepared.train if data == "training" else prepared.validation
        if part is None:
            raise DataError(f"'{trained.run.url}' was trained without validation data; use --data training or a file")
        in_blocks = None if isinstance(part, Examples) or data != "training" else part
        locate = None if in_blocks is None else partial(in_blocks.locate_batch, seed=recipe.seed)
        return Population(data, schema, recipe.dtype, in_memory(part), locate)
    near = find_near(data, PARTS, cutoff=0.5)
    if near and not Path(data).exists():
        raise DataError(f"there are no data '{data}'; did you mean {near}?")
    return Population(data, schema, recipe.dtype, in_memory(read_examples(schema, data, recipe.data.target)))
