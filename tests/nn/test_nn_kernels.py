"""Portable kernels: what they are, what they change, and what is said where there are none. All in real processes."""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
import sys

import pytest

from distbp.config import Model as ModelConfig
from distbp.errors import ConfigError
from distbp.nn import kernels
from distbp.nn.build import ModelSpec
from distbp.nn.kernels import CORETYPE, DISABLED, expect_portable, inherited_variables, is_portable, portable_variables
from distbp.nn.numerics import is_same_arithmetic, list_kernels, probe, whole_probe

LOOK = """
import json, sys
from distbp.config import Model
from distbp.nn.build import ModelSpec
from distbp.nn.kernels import inherited_variables, is_portable, list_simd
from distbp.nn.numerics import probe
specs = [ModelSpec(Model(activation=a), 4, 3, True, d) for a, d in json.loads(sys.argv[1])]
print(json.dumps([is_portable(), inherited_variables(), list_simd(), [probe(spec) for spec in specs]]))
"""
MODELS = [("relu", "float32"), ("tanh", "float64")]


@functools.cache
def portable() -> dict[str, str]:
    try:
        return portable_variables()
    except ConfigError as error:
        pytest.skip(str(error))


def look(**variables: str) -> tuple[bool, dict[str, str], list[str], list[str]]:
    """What a process with these variables says of itself; nothing of this one's kernels is inherited."""
    environment = {key: value for key, value in os.environ.items() if key not in (CORETYPE, DISABLED)}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, json.dumps(MODELS)],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return tuple(json.loads(done.stdout))


def without_newer_features() -> dict[str, str]:
    variables = portable()
    if not variables[DISABLED] or not set(look()[2]) & set(variables[DISABLED].split(",")):
        pytest.skip("this CPU has no features beyond AVX2 that NumPy uses")
    return {DISABLED: variables[DISABLED]}


@pytest.mark.slow
def test_the_variables_make_a_process_portable_and_it_asks_the_same_of_others():
    is_it, inherited, simd, _ = look(**portable())
    assert is_it
    assert inherited == portable()
    assert not [name for name in simd if "512" in name or name == "X86_V4"]


@pytest.mark.slow
@pytest.mark.parametrize("missing", [CORETYPE, DISABLED])
def test_one_of_the_variables_alone_is_not_enough(missing):
    without_newer_features()
    is_it, inherited, _, _ = look(**{key: value for key, value in portable().items() if key != missing})
    assert (is_it, inherited) == (False, {})


def test_features_that_were_disabled_before_stay_so(monkeypatch):
    names = portable()[DISABLED].split(",")
    monkeypatch.setenv(DISABLED, "X86_V3")
    assert portable_variables()[DISABLED].split(",") == sorted({*names, "X86_V3"} - {""})


@pytest.mark.slow
def test_the_probe_of_a_recipe_sees_what_it_uses_and_nothing_else():
    """NumPy's float64 tanh and exp differ with AVX-512, what a float32 relu network uses does not."""
    off = {CORETYPE: "Haswell", **without_newer_features()}
    on = {CORETYPE: "Haswell"}
    relu, tanh = zip(look(**on)[3], look(**off)[3], strict=True)
    assert relu[0] == relu[1]
    assert tanh[0] != tanh[1]


@pytest.mark.parametrize(
    "other",
    [
        {"config": ModelConfig(activation="tanh")},
        {"config": ModelConfig(hidden=())},
        {"config": ModelConfig(dropout=0.5)},
        {"config": ModelConfig(init="glorot")},
        {"config": ModelConfig(loss="squared_error")},
        {"config": ModelConfig(function="a:b")},
        {"is_classification": False, "config": ModelConfig(loss="squared_error")},
        {"dtype": "float64"},
    ],
)
def test_models_that_compute_otherwise_have_other_probes(other):
    values = {"config": ModelConfig(), "num_inputs": 3, "num_outputs": 2, "is_classification": True, "dtype": "float32"}
    assert probe(ModelSpec(**{**values, **other})) != probe(ModelSpec(**values))


def test_sizes_do_not_change_the_probe():
    small, large = (
        ModelSpec(ModelConfig(hidden=hidden), n, 3, True, "float32") for n, hidden in ((4, (2,)), (9, (8, 8)))
    )
    assert probe(small) == probe(large)


def test_the_probe_that_version_0_1_0_wrote_is_understood():
    spec = ModelSpec(ModelConfig(), 4, 3, True, "float32")
    assert is_same_arithmetic({"numpy": "2.4.6", "blas": [], "probe": whole_probe()}, spec)
    assert not is_same_arithmetic({"numpy": "2.4.6", "blas": [], "probe": probe(spec)}, spec)


def test_a_process_that_is_not_portable_says_what_to_type():
    if is_portable():
        pytest.skip("this process is portable")
    variables = portable()
    with pytest.raises(ConfigError) as raised:
        expect_portable()
    assert all(f"{key}={value}" in str(raised.value) for key, value in variables.items())
    assert inherited_variables() == {}


def test_another_cpu_is_refused_with_a_sentence(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(ConfigError, match=r"is for x86 CPUs with AVX2, and this one is aarch64; leave placement\.port"):
        portable_variables()


@pytest.mark.parametrize(("found", "name"), [(None, "an unknown BLAS"), ({"internal_api": "mkl"}, "mkl")])
def test_another_blas_is_refused_with_a_sentence(monkeypatch, found, name):
    portable()
    monkeypatch.setattr(kernels, "describe_blas", lambda: found)
    with pytest.raises(ConfigError, match=f"needs NumPy with OpenBLAS, as pip installs it, and this one has {name}"):
        portable_variables()


def test_a_fingerprint_names_numpys_blas_alone_though_scipy_brings_its_own():
    pytest.importorskip("scipy.linalg")
    assert len(list_kernels()["blas"]) == 1
