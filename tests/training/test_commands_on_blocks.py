"""What other commands do with data in blocks, and with runs that were trained on them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from block_files import SIZES, write_blocks

from distbp import Config, Recipe, load_run, train
from distbp.__main__ import main
from distbp.data.blocks.supply import BlockSupply
from distbp.errors import ConfigError, DataError, StorageError
from distbp.explain.opening import gather
from distbp.explain.population import epoch_batches, next_batch
from distbp.service.package import list_requirements, list_travelling_data
from distbp.training.dataset import write_dataset

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_blocks(tmp_path / "d")


@pytest.fixture
def recipe(make_recipe, folder: Path) -> Recipe:
    return make_recipe(data={"source": str(folder), "window_blocks": 1}, global_batch_size=60)


def test_the_batches_that_explain_shows_are_those_that_were_trained_on(recipe, make_placement):
    trained = load_run(train(recipe, make_placement(), name="run").run)
    population = gather(trained, "training")
    batches = epoch_batches(population, recipe, 1, limit=100)
    assert sorted(np.concatenate(batches)) == list(range(len(population)))
    assert all(len(batch) == 60 for batch in batches[:-1])
    assert np.array_equal(next_batch(population, recipe, 2), batches[2])
    assert not np.array_equal(next_batch(population, recipe, len(batches) + 2), batches[2])


def test_doctor_says_how_fast_blocks_are_read(folder, capsys, tmp_path):
    main(["doctor", "--set", f"data.source={folder}", "--storage", str(tmp_path / "runs"), "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    (found,) = (finding for finding in findings if finding["topic"] == "data")
    assert "rows a second, and a worker computes at most" in found["fact"]


def test_too_little_memory_for_the_windows_is_warned_of(recipe, make_placement, caplog):
    with caplog.at_level(logging.WARNING, "distbp"):
        train(recipe, make_placement(memory_for_data="1kB"), name="run")
        assert "memory_for_data=0.001MB holds" in caplog.text
        caplog.clear()
        train(recipe, make_placement(), name="other")
        assert "memory_for_data" not in caplog.text


def test_jobs_take_the_name_of_blocks_with_them_and_not_the_files(folder, monkeypatch):
    def config(source: str) -> Config:
        return Config.model_validate({"recipe": {"data": {"source": source}}})

    assert list_travelling_data(config(str(folder))) == []
    assert list_travelling_data(config("s3://bucket/data")) == []
    monkeypatch.chdir(folder.parent)
    for source in ("d", "d/*.parquet"):
        with pytest.raises(DataError, match="which do not travel with a job"):
            list_travelling_data(config(source))
    needed = " ".join(list_requirements(config("s3://bucket/data")))
    assert "pyarrow" in needed
    assert "s3fs" in needed
    assert "pyarrow" not in " ".join(list_requirements(config("digits")))


def test_studies_read_blocks_into_memory(recipe):
    from distbp.lab.trial import plan_for

    plan = plan_for(recipe)
    assert not isinstance(plan.worker.train, BlockSupply)
    assert len(plan.worker.train) + len(plan.worker.validation) == sum(SIZES)


def test_an_amount_of_memory_that_is_none_is_one_sentence(capsys, tmp_path):
    argv = ["train", "--storage", str(tmp_path), "--set", "placement.memory_for_data=much"]
    assert main(argv) == 2
    assert "'much' is no amount of memory; write it as 512MB or 2GB" in capsys.readouterr().err


class _Dataset:
    """What is asked of a Ray Dataset: writes one file, or fails in the middle."""

    def __init__(self, fails: bool = False):
        self.num_written = 0
        self._fails = fails

    def write_parquet(self, path: str, **_: object) -> None:
        self.num_written += 1
        write_blocks(Path(path) / "written")
        if self._fails:
            raise RuntimeError("no more memory")


def test_a_dataset_is_written_once_and_trained_on(make_recipe, make_placement, tmp_path):
    recipe = make_recipe(data={"source": str(tmp_path / "ready")}, global_batch_size=60)
    dataset = _Dataset()
    first = train(recipe, make_placement(), name="a", data=dataset)
    assert train(recipe, make_placement(), name="b", data=dataset).digest == first.digest
    assert dataset.num_written == 1


def test_a_dataset_that_was_not_written_whole_is_not_trained_on(tmp_path):
    with pytest.raises(StorageError, match="no more memory"):
        write_dataset(_Dataset(fails=True), str(tmp_path / "half"))
    with pytest.raises(StorageError, match="not a whole dataset"):
        write_dataset(_Dataset(), str(tmp_path / "half"))
    with pytest.raises(ConfigError, match="expected a Ray Dataset"):
        write_dataset([1, 2], str(tmp_path / "new"))
    with pytest.raises(ConfigError, match="needs a place to be written to"):
        write_dataset(_Dataset(), "digits")
