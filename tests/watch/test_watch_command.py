"""`distbp watch` for scripts: snapshots, documents, mistakes."""

from __future__ import annotations

import json
import socket

import pytest

from distbp.__main__ import main

pytestmark = pytest.mark.slow


def test_without_a_terminal_it_shows_how_things_are_and_ends(finished, capsys):
    assert main(["watch", finished.run]) == 0
    shown = capsys.readouterr().out
    assert "step 69 of 69   epoch 3 of 3" in shown
    assert f"digest {finished.digest}" in shown
    assert "\x1b" not in shown


def test_the_document_holds_all_runs_in_order(finished, storage, capsys):
    from distbp import Placement, Recipe, train

    train(Recipe(epochs=1), Placement(storage=storage), name="other")
    assert main(["watch", f"{storage}/other", finished.run, "--json"]) == 0
    other, mine = json.loads(capsys.readouterr().out)["runs"]
    assert (other["name"], other["state"], other["num_steps"]) == ("other", "finished", 23)
    assert (mine["digest"], mine["accuracy"]) == (finished.digest, finished.validation_accuracy)
    assert len(mine["curves"]["loss"]) == 69


def test_a_run_that_is_not_there_is_one_sentence(finished, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["watch", f"{finished.run}x"]) == 4
    assert "there is no run" in capsys.readouterr().err
    assert main(["watch", "nothing"]) == 4
    told = capsys.readouterr().err
    assert "there is no run 'nothing'" in told
    assert "no cluster is named" in told


def test_a_port_that_is_taken_is_one_sentence(finished, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["watch", finished.run, "--html", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "70000", "x"])
def test_a_port_that_is_none_is_one_sentence(finished, capsys, port):
    assert main(["watch", finished.run, "--html", port]) == 2
    assert capsys.readouterr().err.startswith("Error: ")


class FakeServer:
    """Knows one job, submitted with or without a name."""

    address = "http://head:8265"
    name: str | None = "finished"

    def __init__(self, address):
        assert address == self.address

    def find(self, name):
        from distbp.service.jobs import Job

        return Job(f"{name}-1a2b3c", "RUNNING", self.name, self.storage, None, None, 0, None)


def test_the_name_of_a_job_shows_its_run(finished, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("distbp.service.jobs.JobServer", FakeServer)
    monkeypatch.setattr(FakeServer, "storage", finished.run.rpartition("/")[0], raising=False)
    assert main(["watch", "job", "--address", FakeServer.address]) == 0
    assert "step 69 of 69" in capsys.readouterr().out
    monkeypatch.setattr(FakeServer, "name", None)
    assert main(["watch", "job", "--address", FakeServer.address]) == 4
    assert "was submitted without --name" in capsys.readouterr().err
