"""What travels with a job: all that the run reads by relative paths, and nothing that nobody asked for."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from distbp.config import parse_config
from distbp.data import prepare
from distbp.service.package import Package, check_storage, list_travelling_data, pack


def make_config(storage="/runs", **recipe):
    return parse_config({"recipe": recipe, "placement": {"storage": storage}})


def write_idx(path: Path, array: np.ndarray) -> None:
    sizes = b"".join(struct.pack(">I", size) for size in array.shape)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.astype("u1").tobytes())


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The current folder, with data of every kind that takes more than one file."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for part in ("train", "held"):
        np.save(f"{part}_x.npy", np.arange(180.0).reshape(60, 3))
        np.save(f"{part}_y.npy", np.arange(60) % 2)
    np.save("other.npy", np.arange(60) % 3)
    for part in ("train", "t10k"):
        for where in (Path(), Path("images")):
            write_idx(where / f"{part}-images-idx3-ubyte", np.arange(60 * 16).reshape(60, 4, 4) % 256)
            write_idx(where / f"{part}-labels-idx1-ubyte", np.arange(60) % 3)
    write_idx(Path("other-labels-idx1-ubyte"), np.arange(60) % 3)
    Path("images/.gitignore").write_text("*\n")
    Path("images/notes.txt").write_text("not read")
    return folder


def pack_for(tmp_path: Path, **recipe) -> tuple[set[str], Package]:
    """Pack, and return the names of all that travels besides distbp, and what was said of it."""
    sent = tmp_path / "sent"
    sent.mkdir()
    package = pack(make_config(**recipe), sent)
    names = {str(path.relative_to(sent)) for path in sent.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith("distbp/")} - {"config.yaml"}, package


IDX_NAMES = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte"}
HELD_OUT_NAMES = {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({"source": "train_x.npy"}, {"train_x.npy", "train_y.npy"}),
        ({"source": "train_x.npy", "target": "other.npy"}, {"train_x.npy", "other.npy"}),
        (
            {"source": "train_x.npy", "validation": "held_x.npy"},
            {"train_x.npy", "train_y.npy", "held_x.npy", "held_y.npy"},
        ),
        ({"source": "train-images-idx3-ubyte"}, IDX_NAMES),
        (
            {"source": "train-images-idx3-ubyte", "target": "other-labels-idx1-ubyte"},
            {"train-images-idx3-ubyte", "other-labels-idx1-ubyte"},
        ),
        (
            {"source": "train-images-idx3-ubyte", "validation": "t10k-images-idx3-ubyte"},
            IDX_NAMES | HELD_OUT_NAMES,
        ),
        ({"source": "images"}, {f"images/{name}" for name in IDX_NAMES}),
        (
            {"source": "images", "validation": "images"},
            {f"images/{name}" for name in IDX_NAMES | HELD_OUT_NAMES},
        ),
    ],
)
@pytest.mark.usefixtures("here")
def test_every_file_that_is_read_travels_and_no_other(tmp_path, monkeypatch, data, names):
    found, package = pack_for(tmp_path, data=data)
    assert found == names
    assert set(package.names) == names
    monkeypatch.chdir(tmp_path / "sent")
    prepare(make_config(data=data).recipe.data, 0)  # and they are enough


@pytest.mark.usefixtures("here")
def test_package_says_what_is_sent_and_how_large_it_is(tmp_path):
    _, package = pack_for(tmp_path, data={"source": "train_x.npy"})
    size = sum(path.stat().st_size for path in (tmp_path / "sent").rglob("*") if path.is_file())
    assert size <= package.num_bytes <= 1.5 * size + 1_000_000
    assert package.describe().startswith(f"sending {package.num_bytes / 1e6:,.1f} MB: distbp, the configuration, ")
    assert package.describe().endswith("train_x.npy, train_y.npy")


@pytest.fixture
def model_here(here, tmp_path) -> Path:
    """A model of the user's own: a module, a helper, a package with data of its own, and what must stay here."""
    outside = tmp_path / "outside.txt"
    outside.write_text("not here")
    (here / "my_model.py").write_text("import json\nimport helper\nfrom parts.layers import x\n")
    (here / "helper.py").write_text("def f():\n    import deeper\n")
    (here / "deeper.py").write_text("")
    (here / "unrelated.py").write_text("")
    (here / "parts" / ".aws").mkdir(parents=True)
    (here / "parts" / "__pycache__").mkdir()
    names = ["__init__.py", "layers.py", "table.csv", ".env", ".aws/credentials", ".gitignore", "id_rsa", "server.pem"]
    for name in [*names, "__pycache__/layers.pyc"]:
        (here / "parts" / name).write_text("*" if name == ".gitignore" else "")
    (here / "parts" / "link.txt").symlink_to(outside)
    (here / "parts" / "inside.py").symlink_to(here / "helper.py")
    return here


MODEL_FILES = {"my_model.py", "helper.py", "deeper.py"} | {
    f"parts/{name}" for name in ("__init__.py", "layers.py", "table.csv", "inside.py")
}


@pytest.mark.usefixtures("model_here")
def test_modules_of_a_model_travel_with_what_they_import_and_no_secrets(tmp_path):
    found, package = pack_for(tmp_path, model={"function": "my_model:build"})
    assert found == MODEL_FILES
    assert set(package.names) == {"my_model.py", "helper.py", "deeper.py", "parts"}
    stays = (".aws", ".env", ".gitignore", "id_rsa", "link.txt", "server.pem")
    assert package.left_out == tuple(f"parts/{name}" for name in stays)
    assert "left here: parts/.aws, parts/.env" in package.describe()


def test_paths_that_begin_with_a_tilde_are_absolute_as_in_train(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert list_travelling_data(make_config(data={"source": "~/x.npy", "target": "~/y.npy"})) == []
    check_storage("~/runs")


SUBMIT = """
import sys
from distbp import __main__
from distbp.service import jobs

def pack(config, folder):
    (folder / "large").write_bytes(b"x")
    print(folder, flush=True)
    sys.stdin.read()

class Server(jobs.JobServer):
    def __init__(self, address=None):
        self.address = "http://nowhere"

jobs.pack, jobs.JobServer = pack, Server
sys.argv = ["distbp", "submit", "--storage", "/runs"]
sys.exit(__main__.main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_submit_that_is_stopped_leaves_no_files(number):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SUBMIT], **pipes) as process:
        folder = Path(process.stdout.readline().strip())
        assert (folder / "large").exists()
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert not folder.exists()
