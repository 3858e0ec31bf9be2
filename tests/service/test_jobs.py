"""What is decided before a cluster is spoken to, and how a log is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from distbp.cli.app import app
from distbp.config import parse_config
from distbp.errors import ClusterError, ConfigError, DataError
from distbp.service.connection import connect, find_address
from distbp.service.job_log import LogLines, find_document, split_log
from distbp.service.jobs import Job, JobServer
from distbp.service.package import list_requirements, pack

LOG = 'step 1\nstep 2\n{\n  "digest": "ab"\n}\n'


def make_config(storage="/runs", **recipe):
    return parse_config({"recipe": recipe, "placement": {"storage": storage, "address": "elsewhere:6379"}})


@pytest.fixture
def sent(tmp_path) -> Path:
    folder = tmp_path / "sent"
    folder.mkdir()
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "here"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "toy.csv").write_text("a,b\n1,2\n")
    (folder / "data" / "held.csv").write_text("a,b\n3,4\n")
    monkeypatch.chdir(folder)
    return folder


def test_address_falls_back_to_the_api_server_and_then_to_ray_address(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://b:1")
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert find_address(None) == "http://b:1"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://a:1")
    assert find_address(None) == "http://a:1"
    assert find_address("http://c:1") == "http://c:1"
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(ConfigError, match="--address"):
        find_address(None)


def test_cluster_that_is_not_there_is_a_sentence():
    with pytest.raises(ClusterError, match=r"http://127\.0\.0\.1:9: .*refused; check the address"):
        connect("http://127.0.0.1:9")


@pytest.mark.parametrize("storage", ["runs", "memory://runs"])
def test_storage_that_would_vanish_with_the_job_is_refused(storage, sent):
    with pytest.raises(ConfigError, match="would vanish with the job"):
        pack(make_config(storage), sent)


def test_package_holds_distbp_and_a_configuration_for_the_cluster_it_runs_on(sent):
    pack(make_config(), sent)
    assert (sent / "distbp" / "config" / "recipe.py").exists()
    assert not list(sent.rglob("__pycache__"))
    assert "backend: ray" in (sent / "config.yaml").read_text()
    assert "elsewhere" not in (sent / "config.yaml").read_text()


@pytest.mark.usefixtures("here")
def test_relative_data_travels_under_its_own_name(sent):
    pack(make_config(data={"source": "data/toy.csv", "validation": "data/held.csv"}), sent)
    assert (sent / "data" / "toy.csv").read_text() == "a,b\n1,2\n"
    assert (sent / "data" / "held.csv").exists()


@pytest.mark.parametrize("source", ["absent.csv", "../outside.csv"])
@pytest.mark.usefixtures("here")
def test_relative_data_that_cannot_travel_is_refused(source, sent):
    with pytest.raises(DataError, match=source):
        pack(make_config(data={"source": source}), sent)


def test_data_too_large_to_travel_is_refused(here, sent):
    with (here / "data" / "toy.csv").open("r+b") as file:
        file.truncate(100 * 1024 * 1024)  # a hole: nothing is written
    with pytest.raises(DataError, match=r"104,858,600 bytes are too many to travel with a job \(at most"):
        pack(make_config(data={"source": "data/toy.csv"}), sent)


def test_requirements_to_install_leave_ray_to_the_cluster():
    names = list_requirements(make_config())
    assert any(name.startswith("safetensors") for name in names)
    assert not any(name.startswith(("ray", "pyarrow")) or "pytest" in name for name in names)


def test_nodes_install_the_reader_of_tables_where_the_data_are_tables():
    assert any(
        name.startswith("pyarrow") for name in list_requirements(make_config(data={"source": "d.csv", "target": "y"}))
    )


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--set", "microbatch_size=5000", "--storage", "/runs"], 2, "larger than global_batch_size=64"),
        (["--set", "epoch=5", "--storage", "/runs"], 2, "epoch"),
        (["--storage", "runs"], 2, "would vanish with the job"),
        (["--storage", "/runs", "--name", "a/b"], 2, "run name 'a/b' cannot be used"),
        (["--storage", "/runs", "--set", "data.source=absent.csv"], 3, "does not exist here"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(argv, code, words):
    done = CliRunner().invoke(app, ["submit", *argv, "--address", "http://127.0.0.1:9", "--json"])
    assert done.exit_code == code
    assert words in json.loads(done.stdout)["error"]["message"]


class Server:
    """A job server that has one job, whose texts look like markup."""

    address = "http://[::1]:8265"
    job = Job("m-1", "FAILED", "m", "/runs", "[/x] failed", 3, 0, 1000)

    def __init__(self, _address):
        pass

    def find(self, _name):
        return self.job

    def list(self):
        return []

    def logs(self, _job):
        return "examples of 'd [low]/t.csv' and 'd [/x]/t.csv' :smile:\n"

    def follow(self, job, show):
        show(self.logs(job))
        return job

    def explain_end(self, job):
        return job.message

    def result(self, _job):
        return {"run": "/runs/[/x] [low]"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["logs", "m"], "examples of 'd [low]/t.csv' and 'd [/x]/t.csv' :smile:\n"),
        (["logs", "m", "--follow"], "examples of 'd [low]/t.csv' and 'd [/x]/t.csv' :smile:\n"),
        (["status", "m"], "[/x] failed"),
        (["result", "m"], "/runs/[/x] [low]"),
        (["list"], "no jobs at http://[::1]:8265"),
    ],
)
def test_texts_of_a_job_are_shown_as_they_are(monkeypatch, argv, words):
    monkeypatch.setattr("distbp.service.jobs.JobServer", Server)
    assert words in CliRunner().invoke(app, argv).output


def test_document_is_found_at_the_end_of_a_log():
    assert find_document(LOG) == {"digest": "ab"}
    assert split_log(LOG)[0] == "step 1\nstep 2\n"
    assert find_document("no document") is None
    assert find_document('x\n{\n  "cut": ') is None


@pytest.mark.parametrize("size", range(1, len(LOG) + 1))
def test_followed_log_shows_every_line_once_in_whatever_pieces_it_comes(size):
    shown: list[str] = []
    lines = LogLines(shown.append)
    lines.add(LOG[:size])
    lines.restart()
    for start in range(0, len(LOG), size):
        lines.add(LOG[start : start + size])
    assert lines.finish() == LOG
    assert "\n".join(shown) == "step 1\nstep 2"


def test_followed_log_with_braces_but_no_document_is_shown_whole():
    shown: list[str] = []
    lines = LogLines(shown.append)
    lines.add("a\n{\nb")
    lines.finish()
    assert "\n".join(shown) == "a\n{\nb"


def test_the_result_of_a_name_is_not_that_of_a_twin_that_was_refused(monkeypatch):
    def job(submission_id: str, exit_code: int | None, start_time_ms: int) -> Job:
        return Job(submission_id, "FAILED", "run", "s3://b", None, exit_code, start_time_ms, None)

    refused, older, running = job("run-2", 4, 300), job("run-1", 0, 200), job("run-0", None, 100)
    server = object.__new__(JobServer)
    monkeypatch.setattr(JobServer, "list", lambda _: [refused, older, running])
    assert server.find("run") == older
    assert server.find("run-2") == refused
    monkeypatch.setattr(JobServer, "list", lambda _: [refused])
    assert server.find("run") == refused
