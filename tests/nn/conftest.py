from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from distbp.config import Model as ModelConfig
from distbp.nn.mlp import MLP, build_mlp
from distbp.nn.streams import Purpose, stream

NUM_INPUTS, NUM_OUTPUTS = 3, 4


@pytest.fixture
def make_model() -> Callable[..., MLP]:
    """Returns a small float64 network for the given fields of `recipe.model`."""

    def make(is_classification: bool = True, dtype: str = "float64", **fields: object) -> MLP:
        config = ModelConfig.model_validate(fields)
        return build_mlp(config, NUM_INPUTS, NUM_OUTPUTS, is_classification, dtype)

    return make


@pytest.fixture
def draw_point() -> Callable[[MLP], NDArray]:
    """Returns parameters with no zero among them: a zero bias hides a wrong gradient."""

    def draw(model: MLP) -> NDArray:
        rng = np.random.default_rng(17)
        return 0.8 * rng.standard_normal(model.layout.num_parameters)

    return draw


@pytest.fixture
def draw_examples() -> Callable[..., tuple[NDArray, NDArray]]:
    """Returns inputs and either classes or several targets."""

    def draw(num_examples: int, is_classification: bool) -> tuple[NDArray, NDArray]:
        rng = np.random.default_rng(18)
        x = rng.standard_normal((num_examples, NUM_INPUTS))
        if is_classification:
            return x, rng.integers(0, NUM_OUTPUTS, num_examples)
        return x, rng.standard_normal((num_examples, NUM_OUTPUTS))

    return draw


@pytest.fixture
def backprop() -> Callable[..., tuple[float, NDArray]]:
    """Returns the loss sum and the flat gradient sum at a point; every call has the same dropout key."""

    def compute(model: MLP, point: NDArray, x: NDArray, y: NDArray) -> tuple[float, NDArray]:
        gradient = np.full_like(point, np.nan)  # whoever forgets to write a value is found out
        rng = stream(3, Purpose.DROPOUT, 5, 7)
        sums = model.gradient_sums(model.layout.views(point), x, y, model.layout.views(gradient), rng)
        assert sums.num_examples == len(x)
        return sums.loss, gradient

    return compute
