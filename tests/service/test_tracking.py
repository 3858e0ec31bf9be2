"""Runs in a real MLflow server: what is logged, resuming, and a server that is down, hangs or refuses."""

from __future__ import annotations

import json
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_server import start_server

from distbp import Config, Placement, Recipe, load_run, train
from distbp.__main__ import main
from distbp.errors import ConfigError, DivergedError, TerminatedRunError
from distbp.report import read_story
from distbp.run import RunDirectory
from distbp.service import tracking
from distbp.service.tracking import MlflowTracking, hide_password

pytestmark = pytest.mark.slow

RECIPE = Recipe.model_validate({"model": {"hidden": [8]}, "epochs": 3})


@pytest.fixture(scope="module", autouse=True)
def needs_mlflow() -> None:
    pytest.importorskip("mlflow", reason="needs mlflow-skinny, from the extra distbp[mlflow]")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with start_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(autouse=True)
def points_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "INTERVAL_S", 0.0)
    monkeypatch.setattr(tracking, "FIRST_RETRY_S", 0.05)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(recipe=RECIPE, placement=Placement(storage=str(tmp_path / "runs")))


def train_tracked(uri: str, config: Config, observe=None, name: str = "run"):
    with MlflowTracking(uri, config) as tracked:

        def see(progress):
            tracked(progress)
            if observe is not None:
                observe(progress)

        see.finish = tracked.finish
        result = train(config.recipe, config.placement, name=name, observe=see)
        tracked.conclude(result)
    return result


def read_ids(config: Config) -> dict[str, str]:
    return json.loads((Path(config.placement.storage) / "run" / "mlflow.json").read_text())


def test_parameters_metrics_digest_report_and_weights_are_there(server, config, tmp_path):
    from mlflow import MlflowClient
    from safetensors.numpy import load_file

    result = train_tracked(server, config)
    client = MlflowClient(server)
    run = client.get_run(read_ids(config)[server])
    assert run.info.status == "FINISHED"
    assert run.data.params["recipe.optimizer.learning_rate"] == "0.1"
    assert run.data.params["recipe.model.hidden"] == "[8]"
    assert run.data.tags["distbp.digest"] == result.digest
    assert run.data.metrics["result/validation_accuracy"] == pytest.approx(result.validation_accuracy)
    losses = client.get_metric_history(run.info.run_id, "loss/training")
    records = RunDirectory.open(result.run).read_steps()
    assert {metric.step: metric.value for metric in losses} == pytest.approx({r.step: r.loss for r in records})
    accuracies = client.get_metric_history(run.info.run_id, "accuracy/validation")
    expected = {evaluated.step: evaluated.accuracy for evaluated in read_story(result.run).evaluations}
    assert {metric.step: metric.value for metric in accuracies} == pytest.approx(expected)
    weights = load_file(client.download_artifacts(run.info.run_id, "weights.safetensors", str(tmp_path)))
    parameters = load_run(result.run).parameters
    assert {name: array.tobytes() for name, array in weights.items()} == {
        name: array.tobytes() for name, array in parameters.items()
    }
    report = Path(client.download_artifacts(run.info.run_id, "report.html", str(tmp_path))).read_text()
    assert result.digest in report


def test_a_resumed_run_goes_on_in_the_same_mlflow_run(server, config):
    from mlflow import MlflowClient

    def stop(progress):
        if progress.position.step == 30:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(TerminatedRunError):
        train_tracked(server, config, stop)
    client, ids = MlflowClient(server), read_ids(config)
    stopped = client.get_run(ids[server])
    assert stopped.info.status == "KILLED"
    assert "stopped after step 30" in stopped.data.tags["distbp.ended"]
    train_tracked(server, config)
    assert read_ids(config) == ids
    assert client.get_run(ids[server]).info.status == "FINISHED"
    steps = {metric.step for metric in client.get_metric_history(ids[server], "loss/training")}
    assert steps == set(range(1, 70))


def test_a_run_that_was_deleted_there_gets_a_new_one(server, config):
    from mlflow import MlflowClient

    train_tracked(server, config)
    before = read_ids(config)[server]
    MlflowClient(server).delete_run(before)
    train_tracked(server, config)  # has finished already: only what it came to is logged
    after = MlflowClient(server).get_run(read_ids(config)[server])
    assert after.info.run_id != before
    assert (after.info.status, "distbp.digest" in after.data.tags) == ("FINISHED", True)


def test_a_diverged_run_has_failed_there(server, config):
    from mlflow import MlflowClient

    recipe = Recipe.model_validate({"optimizer": {"learning_rate": 1e6}})
    config = Config(recipe=recipe, placement=config.placement)
    with pytest.raises(DivergedError):
        train_tracked(server, config)
    run = MlflowClient(server).get_run(read_ids(config)[server])
    assert run.info.status == "FAILED"
    assert "training diverged" in run.data.tags["distbp.ended"]


def test_the_command_line_logs_too(server, tmp_path, capsys):
    from mlflow import MlflowClient

    options = ["--storage", str(tmp_path), "--name", "run", "--mlflow", server, "--set", "epochs=1", "--json"]
    assert main(["train", *options]) == 0
    found = MlflowClient(server).get_run(json.loads((tmp_path / "run" / "mlflow.json").read_text())[server])
    assert found.data.tags["distbp.digest"] == json.loads(capsys.readouterr().out)["digest"]


def warnings_of(caplog) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_server_that_is_down_costs_the_run_nothing_and_is_told_once(config, caplog, monkeypatch):
    monkeypatch.setattr(tracking, "END_WITHOUT_ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = train_tracked(f"http://user:secret@127.0.0.1:{port}", config)
    plain = train(RECIPE, config.placement, name="plain")
    assert result.digest == plain.digest
    told = warnings_of(caplog)
    assert len(told) == 2
    assert told[0].startswith(f"cannot log to MLflow at http://127.0.0.1:{port}: ")
    assert told[1].startswith("MLflow at http://127.0.0.1")
    assert not any("secret" in text for text in told)


def test_a_server_that_comes_up_late_gets_everything(server, config):
    from mlflow import MlflowClient

    gate = Gate(server)
    result = train_tracked(gate.url, config, lambda progress: gate.open() if progress.position.step == 60 else None)
    gate.close()
    run = MlflowClient(server).get_run(read_ids(config)[gate.url])
    assert run.data.tags["distbp.digest"] == result.digest
    steps = [metric.step for metric in MlflowClient(server).get_metric_history(run.info.run_id, "loss/training")]
    assert sorted(set(steps)) == list(range(1, 70))


class Gate:
    """A port that refuses what comes until it is opened, and then passes it on to a server."""

    def __init__(self, server: str):
        self._target = ("127.0.0.1", int(server.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._is_open = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def open(self) -> None:
        self._is_open.set()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._is_open.is_set():
                client.close()
                continue
            server = socket.create_connection(self._target)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, sink):
            end.close()


def test_a_server_that_never_answers_does_not_hold_the_end_up(config, caplog, monkeypatch):
    monkeypatch.setattr(tracking, "END_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = train_tracked(f"http://127.0.0.1:{silent.getsockname()[1]}", config)
    assert result.steps == 69
    assert "did not take everything" in warnings_of(caplog)[-1]


def test_points_that_are_too_many_are_dropped_the_oldest_first(config, monkeypatch, caplog):
    monkeypatch.setattr(tracking, "MAX_WAITING", 20)
    monkeypatch.setattr(tracking, "END_WITHOUT_ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with MlflowTracking(f"http://127.0.0.1:{port}", config) as tracked:
        train(RECIPE, config.placement, name="run", observe=tracked)
        assert len(tracked.waiting) == 20
        assert tracked.waiting[-1].step == 69
    assert warnings_of(caplog)


def test_without_the_package_it_is_a_sentence(monkeypatch, config):
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"pip install 'distbp\[mlflow\]'"):
        MlflowTracking("http://127.0.0.1:5000", config)


def test_what_is_no_tracking_uri_is_a_sentence(config):
    with pytest.raises(ConfigError, match=r"--mlflow 'host:5000' is no tracking URI; expected one such as http"):
        MlflowTracking("host:5000", config)
    assert hide_password("at http://me:pw@host/x and ftp://a@b") == "at http://host/x and ftp://b"
