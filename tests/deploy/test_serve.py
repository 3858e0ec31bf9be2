"""deploy/serve.py on a local Ray: the predictions of a run over HTTP, its digest, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from lifeline import ending_with_the_tests

from distbp import Placement, Recipe, Result, load_run, train
from distbp.data import prepare

SERVE = Path(__file__).parents[2] / "deploy" / "serve.py"
START_TIMEOUT_S = 180

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(find_spec("grpc_reflection") is None, reason="needs ray[serve], from the extra distbp[serve]"),
]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    recipe = Recipe.model_validate({"model": {"hidden": [8]}, "epochs": 3})
    return train(recipe, Placement(storage=str(tmp_path_factory.mktemp("served"))), name="run")


@pytest.fixture(scope="module")
def url(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    log = tmp_path_factory.mktemp("log") / "serve.log"
    with log.open("wb") as notes:
        process = subprocess.Popen(
            [sys.executable, str(SERVE), result.run, "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=notes,
            text=True,
            env={**inherited, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
        )
        too_late = threading.Timer(START_TIMEOUT_S, process.send_signal, [signal.SIGINT])
        too_late.start()
        with ending_with_the_tests(process):
            try:
                line = next((line for line in process.stdout if line.startswith("http://")), None)
                assert line, log.read_text()[-2000:]
                yield line.strip().removesuffix("/predict")
            finally:
                too_late.cancel()
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=120)
        assert process.returncode == 0


def ask(url: str, body: object = None) -> tuple[int, dict, dict[str, str]]:
    """Return status, document and headers of an answer."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as answer:
            return answer.status, json.load(answer), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), dict(error.headers)


def test_predictions_are_those_of_the_run_and_carry_its_digest(url, result):
    network = load_run(result.run)
    data = prepare(network.config.recipe.data, network.config.recipe.seed)
    examples = data.train.x[:50]
    status, document, headers = ask(f"{url}/predict", {"examples": examples.tolist()})
    expected = network.predict(examples)
    assert status == 200
    assert document["labels"] == expected.labels.tolist()
    assert document["probabilities"] == expected.outputs.tolist()
    assert headers["x-distbp-digest"] == result.digest
    assert ask(f"{url}/health")[1] == {"run": result.run, "digest": result.digest, "step": result.steps}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"no json", "expected JSON such as"),
        ([[0] * 64], "expected JSON such as"),
        ({"examples": [[0] * 64, [0] * 63]}, "rows of equal length"),
        ({"examples": []}, "at least one row of numbers"),
        ({"examples": [["a"] * 64]}, "at least one row of numbers"),
        ({"examples": [[0] * 5]}, "the inputs of the array have shape (5,); the run was trained on (8, 8)"),
        ({"examples": [[0] * 64, [float("nan")] * 64]}, "example 1 (counted from 0) has a value that is not finite"),
    ],
)
def test_what_cannot_be_predicted_is_refused_in_a_sentence(url, result, body, reason):
    status, document, headers = ask(f"{url}/predict", body)
    assert status == 400
    assert reason in document["error"]
    assert headers["x-distbp-digest"] == result.digest


def test_other_paths_are_not_there(url):
    assert ask(f"{url}/other")[0] == 404
    assert ask(f"{url}/health", {})[0] == 404


def test_a_run_that_is_not_there_is_one_sentence(tmp_path):
    command = [sys.executable, str(SERVE), str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 4
    assert done.stderr.startswith("Error: there is no run")
    assert done.stderr.count("\n") == 1
