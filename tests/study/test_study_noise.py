"""The noise scale against its definition, by drawing batches; per-example norms against the gradients themselves."""

from __future__ import annotations

import numpy as np
import pytest

from distbp.config import Model
from distbp.lab.gradients import GradientMeter, read_gradients
from distbp.lab.noise import estimate_noise, exact_noise, expected_cosine, relative_error
from distbp.nn.build import ModelSpec
from distbp.nn.vectors import cosine
from distbp.protocol.examples import Examples
from distbp.protocol.messages import WorkerTask

pytestmark = pytest.mark.slow

NUM_EXAMPLES = 300


@pytest.fixture(scope="module", params=[("cross_entropy", True), ("squared_error", False)], ids=["classes", "values"])
def meter(request) -> GradientMeter:
    """A small float64 network on 300 examples."""
    loss, is_classification = request.param
    rng = np.random.default_rng(1)
    x = rng.standard_normal((NUM_EXAMPLES, 6))
    y = rng.integers(0, 4, NUM_EXAMPLES) if is_classification else rng.standard_normal((NUM_EXAMPLES, 4))
    spec = ModelSpec(Model(hidden=(9, 7), activation="tanh", loss=loss), 6, 4, is_classification, "float64")
    return GradientMeter(WorkerTask(spec, Examples(x, y, np.arange(NUM_EXAMPLES)), None, 0, 8, 1))


@pytest.fixture(scope="module")
def parameters() -> np.ndarray:
    return 0.4 * np.random.default_rng(2).standard_normal(9 * 7 + 7 * 10 + 4 * 8)


@pytest.fixture(scope="module")
def gradients(meter, parameters) -> np.ndarray:
    """Every example's own gradient, (N, P), one at a time."""
    return np.array([meter.mean_gradient(parameters, np.array([i])) for i in range(NUM_EXAMPLES)])


def draw_means(gradients: np.ndarray, batch_size: int, num_draws: int) -> np.ndarray:
    """Mean gradients of random batches without replacement, (num_draws, P)."""
    rng = np.random.default_rng(batch_size)
    ranks = rng.random((num_draws, NUM_EXAMPLES)).argsort(axis=1).argsort(axis=1)
    return (ranks < batch_size) @ gradients / batch_size


def test_squared_norms_are_those_of_each_examples_own_gradient(meter, parameters, gradients):
    norms = meter.squared_norms(parameters, np.arange(NUM_EXAMPLES))
    np.testing.assert_allclose(norms, (gradients**2).sum(axis=1), rtol=1e-12)


def test_mean_gradient_is_the_mean(meter, parameters, gradients):
    full = meter.mean_gradient(parameters, np.arange(NUM_EXAMPLES))
    np.testing.assert_allclose(full, gradients.mean(axis=0), rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("batch_size", [1, 4, 16, 64, 256])
def test_noise_of_drawn_batches_is_what_the_exact_scale_says(meter, parameters, gradients, batch_size):
    full = gradients.mean(axis=0)
    noise = exact_noise(meter.squared_norms(parameters, np.arange(NUM_EXAMPLES)), float(full @ full))
    draws = draw_means(gradients, batch_size, 4000)
    measured = np.mean(np.sum((draws - full) ** 2, axis=1)) / (full @ full)
    finite_population = 1 - batch_size / NUM_EXAMPLES
    assert measured * batch_size / finite_population == pytest.approx(noise.scale, rel=0.05)
    assert measured == pytest.approx(relative_error(noise.scale, batch_size, NUM_EXAMPLES), rel=0.05)


def test_two_batch_estimates_scatter_around_the_truth(gradients):
    full = gradients.mean(axis=0)
    noise = exact_noise((gradients**2).sum(axis=1), float(full @ full))
    small, big = (np.sum(draw_means(gradients, size, 4000) ** 2, axis=1) for size in (4, 64))
    found = [estimate_noise(4, few, 64, many) for few, many in zip(small, big, strict=True)]
    for values, truth in (
        ([estimate.trace for estimate in found], noise.trace),
        ([estimate.squared_norm for estimate in found], noise.squared_norm - noise.trace / NUM_EXAMPLES),
    ):
        standard_error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - truth) < 3 * standard_error


def test_estimate_from_exact_expectations_is_exact():
    trace, squared_norm = 7.0, 2.0
    found = estimate_noise(3, squared_norm + trace / 3, 50, squared_norm + trace / 50)
    assert found.trace == pytest.approx(trace)
    assert found.squared_norm == pytest.approx(squared_norm)
    assert found.scale == pytest.approx(3.5)


def test_a_readings_cosines_grow_with_the_batch_as_expected(meter, parameters):
    reading = read_gradients(meter, parameters, 0, 0.5, (1, 16, 128, NUM_EXAMPLES), 60, seed=4)
    means = [found.mean for found in reading.cosines]
    assert means == sorted(means)
    assert means[-1] == pytest.approx(1)
    assert means[2] == pytest.approx(expected_cosine(reading.exact.scale, 128, NUM_EXAMPLES), abs=0.05)
    assert all(found.low <= found.mean <= found.high for found in reading.cosines[:-1])


def test_cosine_by_hand():
    assert cosine(np.array([3.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(0.5**0.5)
    assert cosine(np.array([1.0, 2.0]), np.array([-2.0, -4.0])) == pytest.approx(-1)
