"""Jobs on a one-node Ray cluster with its dashboard and a token, through the command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ray_head import TOKEN, Service, start_head
from waiting import wait_until

from distbp.installation import VERSION

pytestmark = pytest.mark.ray


@pytest.fixture
def distbp(service: Service):
    """Types a command with the address of the cluster."""

    def call(*argv: object, **options):
        return service.distbp(*argv, "--address", service.address, **options)

    return call


@pytest.fixture
def local_digest(service: Service, tmp_path: Path):
    """Returns the digest that one process gives for these settings."""

    def call(*settings: str) -> str:
        sets = [word for setting in settings for word in ("--set", setting)]
        done = service.distbp("train", *sets, "--storage", tmp_path / "near", "--backend", "local", timeout_s=200)
        return done.document["digest"]

    return call


def test_job_ends_with_the_digest_of_a_local_run(distbp, local_digest, tmp_path):
    done = distbp("submit", "--set", "epochs=3", "--storage", tmp_path / "far", "--name", "one", "--follow")
    assert done.code == 0, done
    assert (done.document["status"], done.document["exit_code"]) == ("SUCCEEDED", 0)
    assert f"distbp {VERSION} (" in done.notes
    assert "digest" in done.notes
    assert "{" not in done.notes
    result = distbp("result", "one").document
    assert result == done.document["result"]
    assert (result["backend"], result["digest"]) == ("ray", local_digest("epochs=3"))
    assert "SUCCEEDED" in distbp("status", "one", as_json=False).notes
    assert "1,438 examples" in distbp("logs", "one").document["log"]


def test_stopped_job_has_a_checkpoint_and_is_resumed_by_its_name(distbp, local_digest, tmp_path):
    storage = tmp_path / "runs"
    settings = ["epochs=400", "checkpoint_every_steps=1000000"]  # more than the command to stop takes on a busy machine
    sets = [word for setting in settings for word in ("--set", setting)]
    submit = ["submit", *sets, "--storage", storage, "--name", "two"]
    assert distbp(*submit).code == 0
    second = distbp(*submit)
    assert (second.code, second.document["error"]["kind"]) == (2, "ConfigError")
    assert "has the run 'two'" in second.document["error"]["message"]
    steps = storage / "two" / "steps.jsonl"
    wait_until(lambda: steps.exists() and steps.stat().st_size > 0)
    stopped = distbp("stop", "two", "--wait")
    assert (stopped.code, stopped.document["status"]) == (0, "STOPPED")
    assert "checkpointed; the same command resumes" in stopped.notes
    assert not (storage / "two" / "result.json").exists()
    assert distbp("result", "two").document["error"]["message"].startswith("job 'two-")
    again = distbp(*submit, "--wait", timeout_s=200)
    assert (again.code, again.document["status"]) == (0, "SUCCEEDED"), again.notes
    assert "resuming 'two' after step" in distbp("logs", "two").document["log"]
    assert again.document["result"]["digest"] == local_digest(*settings)


def test_exit_code_and_sentence_of_the_job_come_back(distbp, tmp_path):
    done = distbp("submit", "--set", "data.source=/nowhere.csv", "--storage", tmp_path, "--name", "bad", "--wait")
    assert (done.code, done.document["status"], done.document["exit_code"]) == (3, "FAILED", 3)
    assert "/nowhere.csv" in done.notes
    assert distbp("logs", "-f", "bad").code == 3
    jobs = distbp("list").document["jobs"]
    assert jobs[0]["submission_id"] == done.document["submission_id"]
    assert done.document["submission_id"] in distbp("list", as_json=False).notes


def test_data_and_model_beside_the_configuration_travel(service, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    (here / "toy.csv").write_text("a,b,label\n" + "".join(f"{i % 7},{i % 3},{i % 2}\n" for i in range(60)))
    (here / "mine.py").write_text((Path(__file__).parents[1] / "training" / "own_model.py").read_text())
    (here / "config.yaml").write_text(
        "recipe:\n  data: {source: toy.csv, target: label}\n  model: {function: 'mine:build'}\n"
        "  global_batch_size: 16\n  epochs: 2\n"
    )
    argv = ["submit", "config.yaml", "--storage", tmp_path / "runs", "--wait", "--json", "--address", service.address]
    done = subprocess.run(
        ["distbp", *map(str, argv)], cwd=here, env=service.environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert '"status": "SUCCEEDED"' in done.stdout


def test_plain_ray_job_submit_works(service, tmp_path):
    argv = ["ray", "job", "submit", "--address", service.address, "--"]
    argv += ["python", "-m", "distbp", "train", "--set", "epochs=1", "--backend", "ray", "--storage", str(tmp_path)]
    done = subprocess.run(argv, env=service.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "digest" in done.stdout


NOTEBOOK = """
import ray
from distbp import Placement, Recipe, train
ray.init(address={gcs!r})
for epochs in (1, 2):
    print(train(Recipe(epochs=epochs), Placement(backend="ray", storage={storage!r})).backend)
assert ray.is_initialized()
"""


def test_ray_init_in_a_notebook_works(service, tmp_path):
    code = NOTEBOOK.format(storage=str(tmp_path), gcs=service.gcs)
    done = subprocess.run(
        ["python", "-c", code], env=service.environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line == "ray"] == ["ray", "ray"]  # Ray prints there, too


def test_missing_and_wrong_token_are_sentences(service):
    argv = ["list", "--address", service.address]
    wrong = service.distbp(*argv, RAY_AUTH_TOKEN="another-token")
    assert (wrong.code, "refused the token" in wrong.document["error"]["message"]) == (7, True)
    missing = service.distbp(*argv, RAY_AUTH_MODE="disabled")
    assert (missing.code, "asks for a token and none was sent" in missing.document["error"]["message"]) == (7, True)
    assert TOKEN not in str(wrong) + str(missing)


def test_address_of_the_command_line_wins_over_the_environment(service):
    elsewhere = {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:9", "RAY_ADDRESS": "http://127.0.0.1:9"}
    assert service.distbp("list", "--address", service.address, **elsewhere).code == 0
    assert service.distbp("list", **elsewhere).code == 7
    assert service.distbp("list", RAY_API_SERVER_ADDRESS=service.address).code == 0
    assert service.distbp("list", RAY_ADDRESS=service.address).code == 0


def test_cluster_without_a_token_and_too_small_for_the_run(tmp_path):
    with start_head(num_cpus=1, token=None) as small:
        argv = ["--storage", tmp_path, "--set", "epochs=1", "--name", "big", "--address", small.address]
        assert small.distbp("submit", *argv, "--workers", 2).code == 0
        wait_until(lambda: "places for 1" in small.distbp("logs", "big", "--address", small.address).document["log"])
        stopped = small.distbp("stop", "big", "--wait", "--address", small.address)
        assert (stopped.document["status"], "before its workers were ready" in stopped.notes) == ("STOPPED", True)
