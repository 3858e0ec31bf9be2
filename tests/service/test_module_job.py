"""A job that trains the user's own PyTorch module, which the cluster has never seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray_head import Service

pytestmark = pytest.mark.ray
pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'distbp[torch]'")

BLOCKS = """
from torch import nn


def block(width):
    return nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1))
"""
MODULE = """
from torch import nn

from blocks import block


def build(num_inputs, num_outputs, width=16):
    return nn.Sequential(nn.Flatten(), nn.Linear(num_inputs, width), block(width), nn.Linear(width, num_outputs))
"""
SETTINGS = ["model={torch: 'my_module:build', options: {width: 24}}", "microbatch_size=16", "epochs=2"]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A user's folder: the module, what it imports, and things that are nobody's business."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "my_module.py").write_text(MODULE)
    (folder / "blocks.py").write_text(BLOCKS)
    (folder / ".env").write_text("KEY=secret")
    return folder


def test_a_submitted_module_ends_with_the_digest_of_a_local_run_and_can_be_used(service: Service, here, tmp_path):
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    near = service.distbp("train", *sets, "--backend", "local", "--storage", tmp_path / "near", cwd=here)
    assert near.code == 0, near
    address = ("--address", service.address)
    options = ("--storage", tmp_path / "far", "--name", "module", "--wait")
    far = service.distbp("submit", *sets, *options, *address, cwd=here, timeout_s=200)
    assert (far.code, far.document["status"]) == (0, "SUCCEEDED"), far
    result = far.document["result"]
    assert (result["backend"], result["digest"]) == ("ray", near.document["digest"])
    evaluated = service.distbp("evaluate", tmp_path / "far" / "module", cwd=here)
    assert evaluated.code == 0, evaluated
    assert service.distbp("verify", tmp_path / "far" / "module", here / near.document["run"], cwd=here).code == 0
