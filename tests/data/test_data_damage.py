"""Whatever bytes a source holds and whatever its path is, the answer is examples or one DataError."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_files import KINDS, write_source
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distbp.config import Data
from distbp.data import PreparedData, prepare
from distbp.errors import DataError

EDITS = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "insert", "zero"]), st.floats(0, 1), st.binary(min_size=1, max_size=4)),
    min_size=1,
    max_size=4,
)


def edit(content: bytes, kind: str, where: float, new: bytes) -> bytes:
    position = int(where * len(content))
    if kind == "flip":
        return content[:position] + new + content[position + len(new) :]
    if kind == "zero":
        return content[:position] + bytes(len(new)) + content[position + len(new) :]
    return content[:position] if kind == "cut" else content[:position] + new + content[position:]


@pytest.fixture(scope="module", params=KINDS)
def source(request, tmp_path_factory):
    return write_source(request.param, tmp_path_factory.mktemp(request.param.replace(".", "-")))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), edits=EDITS)
def test_damaged_bytes_give_examples_or_a_data_error(source, data, edits):
    folder = source if source.is_dir() else source.parent
    copy = folder.with_name(folder.name + "-copy")
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    damaged = copy / data.draw(st.sampled_from(sorted(child.name for child in folder.iterdir())))
    content = damaged.read_bytes()
    for change in edits:
        content = edit(content, *change)
    damaged.write_bytes(content)
    try:
        prepared = prepare(Data(source=str(copy if source.is_dir() else copy / source.name)), seed=0)
    except DataError as error:
        sentence = str(error)
    else:
        assert isinstance(prepared, PreparedData)
        assert np.isfinite(prepared.train.take(slice(None), np.float32)[0]).all()
        return
    assert "\n" not in sentence
    assert len(sentence) < 1_000


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("data.csv", "does not exist"),
        ("a/b.npz", "does not exist"),
        ("data.xlsx", r"suffix '.xlsx'; supported are digits, .* or .parquet"),
        ("plain", "suffix ''; supported are"),
        ("folder.csv", "has no train-images-idx3-ubyte"),
        ("pipe.csv", "is a device or a pipe"),
        ("empty.parquet", "is an empty file"),
        ("x" * 300 + ".csv", "cannot read"),
        ("nul\0.csv", "does not exist"),
    ],
)
def test_path_that_is_no_data_is_one_sentence(tmp_path, name, sentence):
    for file in ("data.xlsx", "plain"):
        (tmp_path / file).write_text("something")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "empty.parquet").touch()
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=sentence):
        prepare(Data(source=str(tmp_path / name)), seed=0)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("digit", r"did you mean 'digits'\?"),
        ("nowhere://bucket/x.npz", "nowhere:// is no known kind of storage"),
        ("~nobody-has-this-name/x.npy", "begins with ~, and there is no such home folder"),
        (".", "has no train-images-idx3-ubyte"),
    ],
)
def test_source_that_names_nothing_is_one_sentence(source, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=sentence):
        prepare(Data(source=source), seed=0)


def test_misspelt_file_name_suggests_its_neighbour(tmp_path):
    write_source("csv", tmp_path)
    with pytest.raises(DataError, match=r"did you mean 'data\.csv'\?"):
        prepare(Data(source=str(tmp_path / "dta.csv")), seed=0)


@pytest.mark.parametrize("kind", ["npz", "npy", "idx.gz"])
def test_file_without_permission_is_one_sentence(kind, tmp_path, monkeypatch):
    source = write_source(kind, tmp_path)

    def refuse(*_args, **_settings):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="Permission denied; check the file and its permissions"):
        prepare(Data(source=str(source)), seed=0)


@pytest.mark.parametrize("leads_to", ["gone.csv", "link.csv"])
def test_link_that_leads_to_nothing_is_named_with_what_it_says(leads_to, tmp_path):
    (tmp_path / "link.csv").symlink_to(leads_to)
    with pytest.raises(DataError, match=rf"link\.csv' is a link that leads to nothing \('{leads_to}'\)"):
        prepare(Data(source=str(tmp_path / "link.csv")), seed=0)
