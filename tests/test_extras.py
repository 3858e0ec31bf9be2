"""What works without the libraries of the extras, and what a command says that needs one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import run_distbp

pytestmark = pytest.mark.slow

HIDDEN = ("jinja2", "markupsafe", "matplotlib", "onnx", "pyarrow", "sklearn", "tensorboardX")
IMPORT_ALL = """
import importlib, pkgutil, distbp
NEEDY = ("distbp.nn.modules.", "distbp.sklearn")  # PyTorch, scikit-learn
for module in pkgutil.walk_packages(distbp.__path__, "distbp.", lambda name: None):
    if module.name != "distbp.__main__" and not module.name.startswith(NEEDY):
        importlib.import_module(module.name)
"""
TINY = ("--set", "epochs=1", "--set", "recipe.model.hidden=[4]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where Python finds no library of an extra, with a trained run in runs/a and small data."""
    folder = tmp_path_factory.mktemp("extras")
    (folder / "hiding").mkdir()
    hiding = f"import sys\nsys.modules.update(dict.fromkeys({HIDDEN!r}))\n"
    (folder / "hiding" / "sitecustomize.py").write_text(hiding)
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(40, 3)), np.arange(40) % 2
    np.savez(folder / "d.npz", x=x, y=y)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    (folder / "d.csv").write_text("a,target\n1,0\n2,1\n")
    (folder / "d.parquet").write_bytes(b"PAR1")
    write_idx(folder / "idx", np.arange(120, dtype=np.uint8), y.astype(np.uint8))
    done = call(folder, "train", *TINY, "--name", "a")
    assert done.returncode == 0, done.stderr
    return folder


def write_idx(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    folder.mkdir()
    for name, array in (("images-idx3", x.reshape(-1, 1, 3)), ("labels-idx1", y)):
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        (folder / f"train-{name}-ubyte").write_bytes(bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes())


def hide(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder / "hiding"), "PYTHONDONTWRITEBYTECODE": "1"}


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_distbp(*words, cwd=folder, env=hide(folder))


def test_every_module_can_be_imported_without_the_extras(folder):
    subprocess.run([sys.executable, "-c", IMPORT_ALL], env=hide(folder), check=True, timeout=120)


@pytest.mark.parametrize(
    "argv",
    [
        ("evaluate", "runs/a"),
        ("predict", "runs/a", "--data", "digits", "--out", "predicted.npz"),
        ("verify", "runs/a", "runs/a"),
        ("list", "runs"),
        ("config",),
        ("export", "runs/a", "--to", "safetensors", "--out", "a.safetensors"),
        ("explain", "runs/a"),
        ("doctor", "--set", "placement.workers=1"),
        *(
            ("train", *TINY, "--set", "recipe.global_batch_size=8", "--set", f"recipe.data.source={data}")
            for data in ("d.npz", "x.npy", "idx")
        ),
    ],
    ids=lambda argv: " ".join((argv[0], argv[-1])),
)
def test_arrays_need_no_extra(folder, argv):
    done = call(folder, *argv)
    assert done.returncode == 0, done.stderr


def test_the_estimators_say_what_they_need(folder):
    program = "import distbp.sklearn"
    done = subprocess.run(
        [sys.executable, "-c", program], env=hide(folder), capture_output=True, text=True, timeout=60, check=False
    )
    sentence = f"distbp.sklearn needs sklearn, which {sys.executable} does not have; pip install 'distbp[sklearn]'"
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: {sentence}")


@pytest.mark.ray
def test_workers_on_ray_need_no_extra(folder):
    done = call(folder, "train", *TINY, "--backend", "ray", "--workers", "2", "--name", "on-ray")
    assert done.returncode == 0, done.stderr
    assert call(folder, "verify", "runs/a", "runs/on-ray").returncode == 0


@pytest.mark.parametrize(
    ("argv", "module", "extra"),
    [
        (("train", "--set", "recipe.data.source=d.csv"), "pyarrow", "tables"),
        (("train", "--set", "recipe.data.source=d.parquet"), "pyarrow", "tables"),
        (("evaluate", "runs/a", "--data", "d.csv"), "pyarrow", "tables"),
        (("predict", "runs/a", "--data", "digits", "--out", "p.csv"), "pyarrow", "tables"),
        (("predict", "runs/a", "--data", "digits", "--out", "p.parquet"), "pyarrow", "tables"),
        (("data", "show", "d.csv", "--target", "target"), "pyarrow", "tables"),
        (("data", "pack", "d.npz", "blocks"), "pyarrow", "tables"),
        (("report", "runs/a"), "matplotlib", "pages"),
        (("explain", "runs/a", "--out", "page.html"), "jinja2", "pages"),
        (("study", "batch-size"), "matplotlib", "pages"),
        (("study", "workers"), "matplotlib", "pages"),
        (("study", "order"), "matplotlib", "pages"),
        (("train", "--tensorboard", "tb"), "tensorboardX", "tensorboard"),
        (("export", "runs/a", "--to", "onnx", "--out", "a.onnx"), "onnx", "onnx"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_a_missing_extra_is_named_in_one_sentence(folder, argv, module, extra):
    before = sorted(folder.rglob("*"))
    done = call(folder, *argv)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"needs {module}, which {sys.executable} does not have; pip install 'distbp[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(folder.rglob("*")) == before
