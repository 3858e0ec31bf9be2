"""Layout and initialisation of the network, and building a model from a recipe."""

from __future__ import annotations

import math

import numpy as np
import pytest

from distbp.config import Model as ModelConfig
from distbp.errors import ConfigError
from distbp.nn.build import ModelSpec
from distbp.nn.mlp import build_mlp
from distbp.nn.streams import Purpose, stream


def spec(num_inputs: int = 784, dtype: str = "float64", is_classification: bool = True, **fields: object) -> ModelSpec:
    return ModelSpec(ModelConfig.model_validate(fields), num_inputs, 10, is_classification, dtype)


def draw_initial(spec: ModelSpec) -> dict[str, np.ndarray]:
    model = spec.build()
    views = model.layout.views(np.full(model.layout.num_parameters, np.nan, spec.dtype))
    model.init(views, stream(0, Purpose.INIT))
    return views


def test_the_lessons_network_has_13002_parameters():
    assert spec(hidden=(16, 16)).build().layout.num_parameters == 13_002


def test_views_share_memory_with_the_flat_vector_and_cover_it():
    layout = spec(5, hidden=(4, 3)).build().layout
    flat = np.zeros(layout.num_parameters)
    for view in layout.views(flat).values():
        view += 1
    assert flat.tolist() == [1.0] * layout.num_parameters


def test_weights_are_stored_outputs_by_inputs():
    shapes = {name: view.shape for name, view in draw_initial(spec(5, hidden=(4,))).items()}
    assert shapes == {"0.weight": (4, 5), "0.bias": (4,), "1.weight": (10, 4), "1.bias": (10,)}


def test_glorot_is_uniform_within_its_bound():
    weight = draw_initial(spec(hidden=(100,), init="glorot"))["0.weight"]
    bound = math.sqrt(6 / (784 + 100))
    assert np.abs(weight).max() == pytest.approx(bound, rel=1e-3)
    assert np.abs(weight).max() <= bound
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_he_has_variance_two_over_inputs():
    weight = draw_initial(spec(hidden=(100,), init="he"))["0.weight"]
    assert weight.std() == pytest.approx(math.sqrt(2 / 784), rel=0.02)


@pytest.mark.parametrize("init", ["glorot", "he"])
def test_glorot_and_he_begin_with_zero_biases(init):
    assert not draw_initial(spec(hidden=(100,), init=init))["0.bias"].any()


def test_normal_draws_weights_and_biases_with_unit_variance():
    views = draw_initial(spec(hidden=(1000,), init="normal"))
    assert views["0.weight"].std() == pytest.approx(1, rel=0.02)
    assert views["0.bias"].std() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("init", ["glorot", "he", "normal"])
def test_both_dtypes_begin_at_the_same_point(init):
    narrow, wide = (draw_initial(spec(20, dtype, hidden=(10,), init=init)) for dtype in ("float32", "float64"))
    for name, view in narrow.items():
        assert view.tobytes() == wide[name].astype(np.float32).tobytes()


def test_cross_entropy_of_numbers_is_refused():
    with pytest.raises(ConfigError, match=r"model\.loss=cross_entropy needs classes.*use model\.loss=squared_error"):
        spec(is_classification=False, loss="cross_entropy").build()


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        ("no_such_module_at_all:build", "cannot import 'no_such_module_at_all'"),
        ("math:no_such_function", "'math' has no 'no_such_function'"),
        ("math:factorial", "calling it with"),
        ("types:SimpleNamespace", "calling it with"),
        ("operator:add", "what it built has no layout, init, gradient_sums, loss_sums, predict"),
    ],
)
def test_a_function_that_builds_no_model_is_refused(function, complaint):
    with pytest.raises(ConfigError, match=f"model.function={function}: {complaint}"):
        spec(function=function).build()


def test_options_reach_the_users_function(monkeypatch):
    def build(num_inputs, num_outputs, width):
        return build_mlp(ModelConfig(hidden=(width,)), num_inputs, num_outputs, True, "float64")

    monkeypatch.setattr("string.build_test_model", build, raising=False)
    built = spec(5, function="string:build_test_model", options={"width": 3}).build()
    assert built.sizes == (5, 3, 10)
