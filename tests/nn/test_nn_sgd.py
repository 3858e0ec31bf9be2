"""The SGD update against hand calculations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distbp.config import Optimizer
from distbp.nn.sgd import clip_factor, decay, sgd, sum_of_squares

GRADIENTS = [1.0, -2.0, 0.5]


def take_steps(optimizer: Optimizer, rate: float = 0.1, start: float = 3.0) -> list[float]:
    """The parameter after each step along GRADIENTS."""
    w, v = np.array([start]), np.zeros(1)
    path = []
    for g in GRADIENTS:
        sgd(w, v, np.array([g]), rate, optimizer)
        path.append(float(w[0]))
    return path


def test_plain_sgd_steps_against_the_gradient():
    assert take_steps(Optimizer(momentum=0.0)) == pytest.approx([2.9, 3.1, 3.05])


def test_momentum_keeps_the_learning_rate_outside_the_velocity():
    # v = 1; 0.5 - 2 = -1.5; -0.75 + 0.5 = -0.25
    assert take_steps(Optimizer(momentum=0.5)) == pytest.approx([2.9, 3.05, 3.075])


def test_nesterov_steps_along_gradient_plus_momentum_times_velocity():
    # g + v / 2 with the v of above: 1.5; -2.75; 0.375
    assert take_steps(Optimizer(momentum=0.5, nesterov=True)) == pytest.approx([2.85, 3.125, 3.0875])


def test_a_new_learning_rate_acts_on_the_whole_velocity():
    w, v = np.array([3.0]), np.zeros(1)
    sgd(w, v, np.array([1.0]), 0.1, Optimizer(momentum=0.5))
    sgd(w, v, np.array([0.0]), 1.0, Optimizer(momentum=0.5))
    assert w == pytest.approx([3.0 - 0.1 * 1 - 1.0 * 0.5])


@settings(deadline=None, max_examples=30)
@given(
    cuts=st.sets(st.integers(1, 49), max_size=5),
    dtype=st.sampled_from(["float32", "float64"]),
    optimizer=st.sampled_from(
        [Optimizer(momentum=0.0), Optimizer(momentum=0.9), Optimizer(momentum=0.9, nesterov=True)]
    ),
)
def test_update_of_slices_is_the_update_of_the_whole(cuts, dtype, optimizer):
    rng = np.random.default_rng(0)
    w, v, g = rng.standard_normal((3, 50)).astype(dtype)
    sliced_w, sliced_v = w.copy(), v.copy()
    for part in np.split(np.arange(50), sorted(cuts)):
        block = slice(part[0], part[-1] + 1)
        sgd(sliced_w[block], sliced_v[block], g[block].copy(), 0.1, optimizer)
    sgd(w, v, g, 0.1, optimizer)
    assert (sliced_w.tobytes(), sliced_v.tobytes()) == (w.tobytes(), v.tobytes())


def test_decay_acts_within_its_ranges_only():
    gradient = np.zeros(6)
    decay(gradient, np.arange(6.0), [(1, 3, 0.5), (4, 5, 0.5)], offset=0)
    assert gradient.tolist() == [0, 0.5, 1, 0, 2, 0]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_decay_of_blocks_is_the_decay_of_the_whole(size):
    parameters = np.arange(6.0)
    gradient = np.zeros(6)
    for start in range(0, 6, size):
        block = slice(start, start + size)
        decay(gradient[block], parameters[block], [(1, 3, 0.5), (4, 5, 0.5)], offset=start)
    assert gradient.tolist() == [0, 0.5, 1, 0, 2, 0]


def test_biases_do_not_decay(make_model):
    layout = make_model(hidden=(5,)).layout
    decays = np.zeros(layout.num_parameters, bool)
    for start, stop, _ in layout.decays(0.1, {}):
        decays[start:stop] = True
    kinds = {name: set(view.ravel().tolist()) for name, view in layout.views(decays).items()}
    assert kinds == {"0.weight": {True}, "0.bias": {False}, "1.weight": {True}, "1.bias": {False}}


def test_clipping_shortens_a_long_gradient_to_the_norm():
    blocks = [np.array([3.0, 0.0]), np.array([4.0])]  # norm 5
    assert clip_factor(map(sum_of_squares, blocks), 2.0) == pytest.approx(2 / 5)


def test_clipping_leaves_a_short_gradient_alone():
    assert clip_factor([9.0, 16.0], 5.0) == 1.0
    assert clip_factor([0.0], 5.0) == 1.0


def test_norm_of_many_float32_values_is_summed_in_float64():
    assert sum_of_squares(np.full(1 << 16, 0.1, np.float32)) == pytest.approx(655.36, rel=1e-7)
