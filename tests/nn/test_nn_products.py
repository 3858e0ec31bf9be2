"""Products added by BLAS have the bits of products that NumPy adds afterwards, in every shape and order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from distbp.config import Model as ModelConfig
from distbp.nn import products
from distbp.nn.blas import one_blas_thread
from distbp.nn.mlp import build_mlp
from distbp.nn.model import find_adding
from distbp.nn.products import ProductAdder
from distbp.nn.streams import Purpose, stream

SHAPES = [
    (1, 3, 5),
    (8, 10, 64),
    (7, 1, 1),
    (7, 8, 8),
    (33, 9, 17),
    (64, 30, 784),
    (128, 512, 200),
    (256, 130, 257),
    (300, 65, 66),
    (1000, 40, 50),
]


@pytest.fixture(autouse=True)
def one_thread():
    with one_blas_thread():
        yield


def draw(rng, shape, dtype, order):
    """Normal numbers, each row on a scale of its own, so that the order of additions shows."""
    return np.asarray(10.0 ** rng.integers(-2, 3, (shape[0], 1)) * rng.standard_normal(shape), dtype, order=order)


@pytest.fixture
def small_too(monkeypatch):
    """Have BLAS add small products too."""
    monkeypatch.setattr(products, "MIN_VALUES", 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("orders", [*itertools.product("CF", repeat=2)])
@pytest.mark.usefixtures("small_too")
def test_bits_are_those_of_adding_afterwards(shape, dtype, orders):
    num_examples, num_outputs, num_inputs = shape
    rng, adder = np.random.default_rng(7), ProductAdder()
    for _ in range(2):
        delta = draw(rng, (num_examples, num_outputs), dtype, orders[0])
        a = draw(rng, (num_examples, num_inputs), dtype, orders[1])
        out = draw(rng, (num_outputs, num_inputs), dtype, "C")
        expected = out + delta.T @ a
        adder.add(delta, a, out)
        np.testing.assert_array_equal(out, expected)


def test_a_blas_that_sums_in_another_way_is_not_used():
    """NumPy's own OpenBLAS sums over 5,000 examples in several goes."""
    assert not products._adds_like_numpy("f", 5000, (40, 50), (False, False))


def gradients(make_adding, num_microbatches=4):
    """Return the sum over microbatches of 9 examples, the first written and the others added."""
    model = build_mlp(ModelConfig(hidden=(11, 7), activation="tanh", dropout=0.2), 5, 3, True, "float32")
    rng = np.random.default_rng(0)
    parameters, total = np.empty((2, model.layout.num_parameters), np.float32)
    views = model.layout.views
    model.init(views(parameters), rng)
    put = model.gradient_sums
    for microbatch in range(num_microbatches):
        x, y = rng.standard_normal((9, 5)).astype(np.float32), rng.integers(0, 3, 9)
        put(views(parameters), x, y, views(total), stream(0, Purpose.DROPOUT, microbatch))
        put = make_adding(model)
    return total


def add_afterwards(model):
    def add(parameters, x, y, gradient, rng):
        more = np.empty(model.layout.num_parameters, np.float32)
        model.gradient_sums(parameters, x, y, model.layout.views(more), rng)
        for name, view in model.layout.views(more).items():
            gradient[name] += view

    return add


@pytest.mark.usefixtures("small_too")
def test_a_network_adds_its_gradient_with_the_bits_of_adding_afterwards():
    np.testing.assert_array_equal(gradients(find_adding), gradients(add_afterwards))


def test_so_it_does_where_blas_is_not_found(monkeypatch):
    expected = gradients(find_adding)
    monkeypatch.setattr(products, "_adds_like_numpy", lambda *_: False)
    np.testing.assert_array_equal(gradients(find_adding), expected)


def test_who_overrides_only_how_gradients_are_written_is_added_by_others():
    class Own(build_mlp(ModelConfig(), 5, 3, True, "float32").__class__):
        def gradient_sums(self, *arguments):
            return super().gradient_sums(*arguments)

    own = object.__new__(Own)
    assert find_adding(own) is None
    assert find_adding(object()) is None
