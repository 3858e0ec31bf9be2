"""The command line as its users meet it: documents, exit codes, files, progress, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from command_line import environment_without, start_distbp
from pyarrow import csv, parquet
from waiting import wait_until

from distbp import train
from distbp.__main__ import main
from distbp.cli.failures import explain
from distbp.cli.next_steps import format_resume_command
from distbp.cli.progress import LINE_INTERVAL_S, format_duration, show_progress
from distbp.cli.terminal import Terminal
from distbp.config import load_config
from distbp.training import Progress

pytestmark = pytest.mark.slow

FAST = ["--set", "epochs=2"]
MANY_STEPS = ["--set", "epochs=250", "--set", "microbatch_size=64", "--workers", "1"]
DEADLINE_S = 60
COMMANDS = ("train", "evaluate", "predict", "verify", "config", "explain")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run runs/digits, and runs/flowers of a table with text labels."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_flowers(folder / "flowers.csv")
        assert main(["train", *FAST, "--name", "digits", "--json"]) == 0
        flowers = ["--set", "data.source=flowers.csv", "--set", "data.target=kind"]
        assert main(["train", *FAST, *flowers, "--set", "epochs=20", "--name", "flowers", "--json"]) == 0
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", sys.path[:])
    return folder


def write_flowers(path: Path) -> None:
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, 200)
    widths = rng.normal(size=200) + 4 * kinds
    lines = [
        f"{width:.3f},{width * 2:.3f},{('daisy', 'rose, red')[kind]!r}"
        for width, kind in zip(widths, kinds, strict=True)
    ]
    path.write_text("\n".join(["width,height,kind", *(line.replace("'", '"') for line in lines)]) + "\n")


def start(*words: str, cwd: Path, **options) -> subprocess.Popen:
    return start_distbp(*words, cwd=cwd, **{"env": clean_environment()} | options)


def clean_environment() -> dict[str, str]:
    return environment_without("FORCE_COLOR", "PYTHONWARNINGS")


def document(capfd: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capfd.readouterr().out)


def test_train_prints_one_document_with_every_promised_field(capfd):
    assert main(["train", *FAST, "--name", "fields", "--json"]) == 0
    out, err = capfd.readouterr()
    result = json.loads(out)
    promised = "run digest backend workers steps epochs train_loss validation_loss validation_accuracy seconds"
    assert {*promised.split(), "examples_per_second", "recoveries"} <= result.keys()
    assert (result["run"], result["epochs"], result["steps"]) == ("runs/fields", 2, 46)
    assert result["digest"] in err


def test_train_shows_a_table_and_what_to_type_next(capfd):
    assert main(["train", *FAST, "--name", "table", "--resume", "never"]) == 0
    out, err = capfd.readouterr()
    shown = dict(line.split(maxsplit=1) for line in out.split("next:")[0].splitlines())
    assert {"accuracy", "loss", "seconds", "examples/s", "steps"} <= shown.keys()
    assert len(shown["digest"]) == 64
    assert shown["run"] == "runs/table"
    assert max(map(len, out.splitlines())) <= 80
    assert err.startswith("64-64-32-10 relu (6,570 parameters)")


def test_the_commands_shown_after_training_work(capfd):
    assert main(["train", *FAST, "--workers=1", "--name", "advice"]) == 0
    lines = capfd.readouterr().out.split("next:\n")[1].splitlines()
    assert [line.split()[:2] for line in lines] == [["distbp", c] for c in ("evaluate", "predict", "train", "verify")]
    assert [main(line.split()[1:]) for line in lines] == [0, 0, 0, 0]
    assert "the same bytes" in capfd.readouterr().out


def test_evaluate_prints_one_document(capfd):
    assert main(["evaluate", "runs/digits", "--json"]) == 0
    report = document(capfd)
    assert {"run", "step", "digest", "data", "loss", "accuracy", "num_examples", "classes", "measures"} == report.keys()
    assert [score["label"] for score in report["classes"]] == list(range(10))
    assert sum(score["num_examples"] for score in report["classes"]) == report["num_examples"] == 359


def test_evaluate_shows_a_row_for_each_class(capfd):
    assert main(["evaluate", "runs/flowers", "--data", "flowers.csv"]) == 0
    out = capfd.readouterr().out
    assert "rose, red" in out
    assert "precision" in out


def test_evaluate_takes_the_step_that_is_named(capfd):
    assert main(["evaluate", "runs/digits", "--step", "23", "--json"]) == 0
    assert document(capfd)["step"] == 23


def test_verify_prints_one_document_and_returns_9_for_different_runs(capfd):
    assert main(["train", *FAST, "--workers", "3", "--name", "three", "--json"]) == 0
    assert main(["train", *FAST, "--set", "seed=1", "--name", "other", "--json"]) == 0
    capfd.readouterr()
    assert main(["verify", "runs/digits", "runs/three", "--json"]) == 0
    same = document(capfd)
    assert same["same"]
    assert same["digest_a"] == same["digest_b"]
    assert main(["verify", "runs/digits", "runs/other", "--json"]) == 9
    different = document(capfd)
    assert not different["same"]
    assert different["first_difference"] == 1
    assert different["error"]["kind"] == "DigestsDifferError"


def test_errors_are_documents_too(capfd):
    assert main(["evaluate", "runs/gone", "--json"]) == 4
    out, err = capfd.readouterr()
    error = json.loads(out)["error"]
    assert (error["kind"], error["exit_code"]) == ("CheckpointError", 4)
    assert error["message"] in err


def test_usage_errors_are_documents_too(capfd):
    assert main(["train", "--json", "--wrong"]) == 2
    assert document(capfd)["error"]["kind"] == "ConfigError"


def test_numbers_that_are_not_finite_become_null(capfd):
    Terminal(as_json=True).document({"loss": float("nan"), "inner": [{"rate": float("inf")}]})
    assert document(capfd) == {"loss": None, "inner": [{"rate": None}]}


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_predictions_come_back_as_they_were_written(here, capfd, suffix):
    out = here / f"p.{suffix}"
    arguments = ["predict", "runs/flowers", "--data", "flowers.csv", "--out", out.name, "--probabilities", "--json"]
    assert main(arguments) == 0
    names = ["kind", "probability_daisy", "probability_rose, red"]
    assert document(capfd)["columns"] == names
    table = read_predictions(out)
    assert list(table) == names
    likelier = np.where(table["probability_daisy"] > table["probability_rose, red"], "daisy", "rose, red")
    assert table["kind"].tolist() == likelier.tolist()
    truth = csv.read_csv(here / "flowers.csv")["kind"].to_pylist()
    assert np.mean(table["kind"] == np.array(truth)) > 0.9


def read_predictions(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path) as archive:
            return dict(archive)
    table: pa.Table = csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def test_all_formats_hold_the_same_probabilities(here):
    found = []
    for suffix in ("csv", "parquet", "npz"):
        assert main(["predict", "runs/digits", "--data", "digits", "--out", f"d.{suffix}", "--probabilities"]) == 0
        found.append(read_predictions(here / f"d.{suffix}"))
    for other in found[1:]:
        for name, column in found[0].items():
            assert np.array_equal(column.astype(np.float32), other[name].astype(np.float32)), name
    assert list(found[0])[:2] == ["prediction", "probability_0"]


def test_regression_predicts_a_column_for_each_target(here, capfd):
    x = np.linspace(-1, 1, 100)
    csv.write_csv(pa.table({"x": x, "twice": 2 * x, "minus": -x}), here / "lines.csv")
    settings = ["data={source: lines.csv, target: [twice, minus]}", "model={hidden: [], loss: squared_error}"]
    words = [word for setting in settings for word in ("--set", setting)]
    assert main(["train", *FAST, *words, "--name", "lines"]) == 0
    assert "accuracy" not in capfd.readouterr().out
    assert main(["predict", "runs/lines", "--data", "lines.csv", "--out", "lines.parquet"]) == 0
    assert list(read_predictions(here / "lines.parquet")) == ["twice", "minus"]
    assert main(["predict", "runs/lines", "--data", "lines.csv", "--out", "l.csv", "--probabilities"]) == 2


def test_predictions_that_cannot_be_written_leave_the_old_file(here, monkeypatch):
    (here / "old.npz").write_bytes(b"old")
    monkeypatch.setattr("numpy.lib.format.write_array", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
    before = sorted(here.iterdir())
    assert main(["predict", "runs/digits", "--data", "digits", "--out", "old.npz"]) == 4
    assert (here / "old.npz").read_bytes() == b"old"
    assert sorted(here.iterdir()) == before


def test_config_explains_every_field_and_reads_back_as_the_same(here, capfd):
    assert main(["config", "--set", "learning_rate=1"]) == 2
    assert main(["config", "--set", "model={hidden: [3], function: 'a.b:c', options: {x: [1, {y: 'z: #'}]}}"]) == 0
    text = capfd.readouterr().out
    assert "# examples per step, over all workers" in text
    (here / "explained.yaml").write_text(text)
    assert main(["config", "explained.yaml"]) == 0
    assert capfd.readouterr().out == text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capfd):
    assert main([command, "--help"]) == 0
    out = capfd.readouterr().out
    assert "--json" in out
    assert "--debug" in out


def test_no_command_shows_all_commands(capfd):
    assert main([]) == 0
    out = capfd.readouterr().out
    assert all(command in out for command in COMMANDS)


def test_version(capfd):
    assert main(["--version"]) == 0
    assert capfd.readouterr().out.startswith("distbp 0.")


def test_a_defect_is_told_in_one_sentence_and_debug_shows_where(capfd, monkeypatch):
    monkeypatch.setattr("distbp.verification.verify.verify", lambda *_: 1 / 0)
    assert main(["verify", "runs/digits", "runs/digits"]) == 1
    err = capfd.readouterr().err
    assert "ZeroDivisionError: division by zero" in err
    assert "Traceback" not in err
    assert main(["verify", "runs/digits", "runs/digits", "--debug"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_ctrl_c_outside_training_is_130(capfd, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("distbp.verification.verify.verify", interrupt)
    assert main(["verify", "runs/digits", "runs/digits"]) == 130
    assert capfd.readouterr().err == "Interrupted\n"


@pytest.mark.slow
def test_a_terminal_gets_a_bar_that_is_gone_at_the_end(folder):
    terminal, stderr = os.openpty()
    environment = {**clean_environment(), "TERM": "xterm", "COLUMNS": "80"}
    process = start(
        "train", *FAST, "--name", "bar", cwd=folder, stdout=subprocess.DEVNULL, stderr=stderr, env=environment
    )
    os.close(stderr)
    shown = read_terminal(terminal)
    assert process.wait(DEADLINE_S) == 0
    assert "46/46" in shown
    assert "epoch 2/2  loss " in shown
    assert shown.rindex("\x1b[2K") > shown.rindex("46/46")  # erased


def read_terminal(terminal: int) -> str:
    """Return all that is written to a pseudo-terminal until its other end is closed."""
    found = b""
    with suppress(OSError):  # how Linux says that nobody writes any more
        while part := os.read(terminal, 65536):
            found += part
    os.close(terminal)
    return found.decode()


def test_a_pipe_gets_a_plain_line_every_few_seconds(capfd, monkeypatch):
    steps: list[Progress] = []
    train(load_config(None, ["epochs=1"]).recipe, name="plain", observe=steps.append)
    seconds = 0.0
    monkeypatch.setattr("distbp.cli.progress.time", SimpleNamespace(monotonic=lambda: seconds))
    with show_progress(Terminal(as_json=False).notes) as observe:
        for step in steps:
            observe(step)
            seconds += 1.0
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == len(steps[1:]) // LINE_INTERVAL_S
    assert re.fullmatch(r"step 6/23  epoch 1/1  loss \S+  64/s  0:17 left", lines[0])


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (59.6, "1:00"), (754, "12:34"), (18367, "5:06:07")])
def test_durations_read_like_a_clock(seconds, text):
    assert format_duration(seconds) == text


def test_the_resume_command_is_the_same_but_never_insists_on_a_new_run():
    words = ["train", "my config.yaml", "--resume=never", "--name", "a", "--resume", "never", "--json"]
    assert format_resume_command(words) == "distbp train 'my config.yaml' --name a --json"


@pytest.mark.slow
def test_a_model_in_the_current_directory_is_found(tmp_path):
    (tmp_path / "nearby.py").write_text("def build(num_inputs, num_outputs):\n    return 'found ' * 2\n")
    process = start("train", "--set", "model.function=nearby:build", cwd=tmp_path)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2
    assert "what it built has no layout" in err


@pytest.mark.slow
def test_start_up_and_local_training_import_nothing_they_do_not_need(tmp_path):
    script = (
        "import sys; from distbp.__main__ import main; assert main(['--help']) == 0\n"
        "early = {'numpy', 'pydantic', 'ray', 'pyarrow', 'matplotlib'} & sys.modules.keys()\n"
        f"assert main(['train', *{FAST!r}]) == 0\n"
        "late = {'ray', 'pyarrow', 'matplotlib'} & sys.modules.keys()\n"
        "sys.exit(f'{early} {late}' if early or late else 0)"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
def test_output_into_a_closed_pipe_is_quiet(here):
    process = start("evaluate", "runs/digits", cwd=here)
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(DEADLINE_S) == 141
    assert err == ""
    process.stderr.close()


@pytest.mark.slow
def test_training_goes_on_when_nobody_reads_its_progress(tmp_path):
    reader, writer = os.pipe()
    words = ("train", *FAST, "--json", "--name", "unread")
    process = start(*words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=writer)
    os.close(reader)
    os.close(writer)
    process.wait(DEADLINE_S)
    assert json.loads((tmp_path / "runs" / "unread" / "result.json").read_text())["epochs"] == 2


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> dict:
    return finish("train", *MANY_STEPS, "--name", "undisturbed", "--json", cwd=folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "exit_code", "backend"),
    [
        (signal.SIGINT, 130, "local"),
        (signal.SIGTERM, 143, "local"),
        pytest.param(signal.SIGTERM, 143, "ray", marks=pytest.mark.ray),  # Ray installs a handler of its own
    ],
)
def test_a_signal_ends_in_a_checkpoint_from_which_the_run_resumes_to_the_same_digest(
    tmp_path, undisturbed, number, exit_code, backend
):
    process = start("train", *MANY_STEPS, "--name", "stopped", "--backend", backend, cwd=tmp_path)
    wait_for_checkpoint(tmp_path / "runs" / "stopped", process)
    process.send_signal(number)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == exit_code, err
    assert "\nStopped after step " in err
    assert f"distbp train {MANY_STEPS[0]} {MANY_STEPS[1]}" in err
    assert not (tmp_path / "runs" / "stopped" / "result.json").exists()

    resumed = finish("train", *MANY_STEPS, "--name", "stopped", "--resume", "must", "--json", cwd=tmp_path)
    assert resumed["digest"] == undisturbed["digest"]
    assert resumed["steps"] == undisturbed["steps"]


def wait_for_checkpoint(run: Path, process: subprocess.Popen) -> None:
    """Return when the run has a checkpoint; fails when it ends before, or takes too long."""
    checkpoints = "checkpoints/step-*/manifest.json"
    wait_until(lambda: process.poll() is not None or list(run.glob(checkpoints)), DEADLINE_S)
    assert process.poll() is None, process.communicate()


def finish(*words: str, cwd: Path) -> dict:
    process = start(*words, cwd=cwd)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.mark.parametrize("spelling", ["flowers.csv", "./flowers.csv", "link.csv", "hard.csv", "absolute", "up"])
def test_predictions_never_replace_the_data_they_are_made_from(here, spelling, capsys):
    before = (here / "flowers.csv").read_bytes()
    (here / "link.csv").unlink(missing_ok=True)
    (here / "link.csv").symlink_to("flowers.csv")
    (here / "hard.csv").unlink(missing_ok=True)
    (here / "hard.csv").hardlink_to(here / "flowers.csv")
    out = {"absolute": str(here / "flowers.csv"), "up": f"../{here.name}/flowers.csv"}.get(spelling, spelling)
    assert main(["predict", "runs/flowers", "--data", "flowers.csv", "--out", out]) == 2
    assert "is the file that --data names; predictions would replace it" in capsys.readouterr().err
    assert (here / "flowers.csv").read_bytes() == before
    assert (here / "link.csv").is_symlink()


def test_a_column_whose_name_is_a_number_can_be_the_target():
    Path("numbered.csv").write_text("0,1,2\n" + "".join(f"{i},{i % 7},{'pq'[i % 2]}\n" for i in range(40)))
    settings = ["--set", "data.source=numbered.csv", "--set", "global_batch_size=8"]
    assert main(["train", *FAST, *settings, "--set", "data.target=2", "--name", "numbered"]) == 0
    assert load_config(None, ["data.target=2"]).recipe.digest == load_config(None, ["data.target='2'"]).recipe.digest
    assert load_config(None, ["data.target=[1, 2]"]).recipe.data.target == ("1", "2")


@pytest.mark.parametrize("file", ["site-packages/library.py", "library/compiled.pxi"])
def test_a_failure_inside_a_library_is_not_blamed_on_the_users_code(file, tmp_path):
    path = tmp_path / file
    path.parent.mkdir()
    if path.suffix == ".py":
        path.touch()
    with pytest.raises(KeyError) as caught:
        exec(compile("{}[1]", str(path), "exec"))
    trace = caught.value.__traceback__
    assert trace is not None
    in_library = caught.value.with_traceback(trace.tb_next)  # this test's own frame counts as user's code
    assert "this is a defect of distbp" in explain(in_library).message
