"""The example of a JAX function as a model of one's own keeps the promise."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed: pip install jax")

# In a process of its own: JAX has threads, and warns when a process that has imported it starts another, as Ray does.
RUNS = """
import sys
from distbp import Placement, Recipe, load_run, train
source, storage = sys.argv[1:]
recipe = Recipe(
    data={"source": source}, model={"function": "jax_model:build"}, global_batch_size=18, microbatch_size=4, epochs=2
)
places = [("ray", 2)] if %(ray)s else [("local", 2), ("local", 3)]
places.append(("local", 1))
found = [train(recipe, Placement(backend=b, workers=n, storage=storage), name=f"{b}-{n}") for b, n in places]
assert len({result.digest for result in found}) == 1, found
assert load_run(found[-1].run).evaluate().loss == found[-1].validation_loss
print("the same")
"""
GRADIENT = """
import jax_model
import numpy as np
model = jax_model.build(4, 3)
rng = np.random.default_rng(0)
flat, direction = rng.standard_normal((2, model.layout.num_parameters)).astype("float32")
x, y = rng.standard_normal((5, 4)).astype("float32"), rng.integers(0, 3, 5)
gradient = np.empty_like(flat)

def loss(flat):
    views = model.layout.views(flat)
    return model.gradient_sums(views, x, y, model.layout.views(gradient), np.random.default_rng(1)).loss

slope = (loss(flat + 1e-3 * direction) - loss(flat - 1e-3 * direction)) / 2e-3
loss(flat)
assert abs(slope - gradient @ direction) < 0.01 * abs(slope), (slope, gradient @ direction)
print("the same")
"""


def run(program: str, *arguments: str) -> None:
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.stdout.endswith("the same\n"), done.stderr


def test_its_digest_does_not_depend_on_workers(sources, tmp_path):
    run(RUNS % {"ray": False}, sources["images"], str(tmp_path))


def test_its_gradient_is_that_of_finite_differences():
    run(GRADIENT)


@pytest.mark.ray
def test_ray_gives_the_bytes_of_one_process(sources, tmp_path):
    run(RUNS % {"ray": True}, sources["images"], str(tmp_path))
