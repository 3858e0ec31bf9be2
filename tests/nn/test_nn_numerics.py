"""The numerics probe: a witness of the bits that a process computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from distbp.nn.numerics import list_kernels, whole_probe

pytestmark = pytest.mark.slow

PRINT_FINGERPRINT = """
import json
from distbp.nn.numerics import list_kernels, whole_probe
print(json.dumps({**list_kernels(), "probe": whole_probe()}))
"""


@pytest.fixture(scope="module")
def fingerprints() -> list[dict]:
    """Fingerprints of two other processes: one like this, one with the kernels of another CPU type."""
    environments = [os.environ, {**os.environ, "OPENBLAS_CORETYPE": other_kernel()}]
    processes = [
        subprocess.Popen([sys.executable, "-c", PRINT_FINGERPRINT], env=environment, stdout=subprocess.PIPE)
        for environment in environments
    ]
    return [json.loads(process.communicate(timeout=60)[0]) for process in processes]


def other_kernel() -> str:
    return "Haswell" if kernels(list_kernels()) != ["Haswell"] else "Sandybridge"


def kernels(numerics: dict) -> list[str | None]:
    return [blas["architecture"] for blas in numerics["blas"]]


def test_two_processes_have_the_same_probe(fingerprints):
    assert fingerprints[0]["probe"] == whole_probe()


def test_another_blas_kernel_has_another_probe(fingerprints):
    if kernels(fingerprints[1]) == kernels(list_kernels()):
        pytest.skip("this BLAS does not choose its kernels by OPENBLAS_CORETYPE")
    assert fingerprints[1]["probe"] != whole_probe()


def test_fingerprint_names_numpy_and_the_kernel(fingerprints):
    assert fingerprints[0]["numpy"] == np.__version__
    assert fingerprints[1]["openblas_coretype"] == other_kernel()
