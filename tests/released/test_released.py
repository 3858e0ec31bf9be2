"""What released versions wrote: every later version resumes, evaluates, verifies, reports, explains and lists it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from distbp import load_run, train, verify
from distbp.__main__ import main
from distbp.config import Config, load_config
from distbp.run import CheckpointStore, RunDirectory
from distbp.run.checkpoints.manifest import SEAL
from distbp.run.config_file import decode_config
from distbp.text.json_text import seal

HERE = Path(__file__).parent
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("released")]

RUNS = ["finished", "stopped", "digits-b6844fee", "table"]


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the folder that 0.1.0 worked in, as the current folder."""
    monkeypatch.chdir(shutil.copytree(HERE / "0.1.0", tmp_path / "0.1.0"))


def config_of(name: str, *overrides: str) -> Config:
    """What its user would give again; this CPU may be another than that of then."""
    settings = ["placement.on_numerics_mismatch=warn", *overrides]
    return load_config(Path("runs") / name / "config.yaml", settings)


def undo(name: str) -> None:
    """Take the end off a finished run, so that it has to be resumed from its last checkpoint."""
    (Path("runs") / name / "result.json").unlink()


@pytest.mark.parametrize("name", RUNS)
def test_its_checkpoints_belong_to_their_run(name):
    run = RunDirectory.open(f"runs/{name}")
    store = CheckpointStore(run, keep=1)
    assert store.list_steps()
    for step in store.list_steps():
        checkpoint = store.load(step)
        assert run.owns(checkpoint.recipe_digest)
        assert run.read_config().recipe.digest_of_0_1_0 == checkpoint.recipe_digest


@pytest.mark.parametrize("name", RUNS)
def test_its_network_is_evaluated_on_its_own_data(name):
    assert main(["evaluate", f"runs/{name}", "--json"]) == 0
    trained = load_run(f"runs/{name}")
    stored = [e for e in trained.run.read_events() if e["kind"] == "evaluated" and e["step"] == trained.step]
    for event in stored:
        assert trained.evaluate().loss == pytest.approx(event["loss"], rel=1e-4)


def test_its_network_predicts_text_labels():
    assert main(["predict", "runs/table", "--data", "held-out.csv", "--out", "p.csv"]) == 0
    labels = Path("p.csv").read_text().split("\n")[1:]
    assert {label.strip('"') for label in labels if label} <= {"ash", "oak", "elm tree"}


def test_its_finished_run_is_known_as_finished():
    config = config_of("finished")
    result = train(config.recipe, config.placement, name="finished", observe=lambda _: pytest.fail("a step"))
    assert (result.final_step, result.steps, result.stopped_early) == (12, 24, True)


@pytest.mark.parametrize(("name", "steps"), [("stopped", 36), ("digits-b6844fee", 36)])
def test_its_stopped_run_goes_on_by_name_from_its_newest_checkpoint(name, steps):
    config, begun = config_of(name), CheckpointStore(RunDirectory.open(f"runs/{name}"), 1).list_steps()[-1]
    seen = []
    result = train(config.recipe, config.placement, name=name, observe=lambda p: seen.append(p.position.step))
    assert (result.steps, seen[0]) == (steps, begun + 1)
    assert load_run(result.run).evaluate().accuracy == result.validation_accuracy


def test_its_stopped_run_without_a_name_is_found_by_the_same_command():
    config = config_of("digits-b6844fee")
    assert train(config.recipe, config.placement).run == "runs/digits-b6844fee"


def test_a_resumed_run_of_it_ends_with_the_bytes_of_a_new_one_where_the_arithmetic_is_the_same():
    config = config_of("table")
    undo("table")
    again = train(config.recipe, config.placement, name="table")
    new = train(config.recipe, config.placement, name="new")
    stored = RunDirectory.open("runs/table").read_numerics()["probe"]
    if stored != RunDirectory.open("runs/new").read_numerics()["probe"]:
        assert again.steps == new.steps
        pytest.skip("this CPU computes other bits than the one that made the run")
    assert verify(again.run, new.run).same


def test_its_data_may_have_moved():
    Path("elsewhere").mkdir()
    for name in ("trees.csv", "held-out.csv"):
        Path(name).rename(Path("elsewhere") / name)
    undo("table")
    moved = ["data.source=elsewhere/trees.csv", "data.validation=elsewhere/held-out.csv"]
    config = config_of("table", *moved)
    assert train(config.recipe, config.placement, name="table").steps == 9
    assert main(["evaluate", "runs/table"]) == 0


def test_its_data_are_known_again(capfd):
    lines = Path("trees.csv").read_text().splitlines()
    Path("trees.csv").write_text("\n".join([lines[0], *sorted(lines[1:])]) + "\n")
    assert main(["explain", "runs/table", "--data", "training"]) == 3
    assert "are not those that 'runs/table' was trained on" in capfd.readouterr().err
    undo("table")
    settings = ["--set", "placement.on_numerics_mismatch=warn", "--name", "table"]
    assert main(["train", "runs/table/config.yaml", *settings]) == 4
    assert "the training data in 'trees.csv' are not those that the run started with" in capfd.readouterr().err


def test_its_run_gets_more_epochs():
    config = config_of("table", "epochs=5")
    result = train(config.recipe, config.placement, name="table")
    assert (result.epochs, result.steps) == (5, 15)
    assert load_run("runs/table").step == 15
    assert [e["step"] for e in load_run("runs/table").run.read_events() if e["kind"] == "started"] == [0, 9]


@pytest.mark.parametrize("name", ["finished", "table"])
def test_its_run_is_verified_with_its_own_bytes(name):
    verdict = verify(f"runs/{name}", str(shutil.copytree(f"runs/{name}", "runs/copy")))
    assert verdict.same
    assert verdict.same_recipe
    assert verdict.steps > 0


def test_its_runs_are_reported():
    assert main(["report", *(f"runs/{name}" for name in RUNS), "--out", "page.html"]) == 0
    assert Path("page.html").stat().st_size > 10_000


@pytest.mark.parametrize("name", RUNS)
def test_its_runs_are_explained(name):
    assert main(["explain", f"runs/{name}", "--out", "page.html"]) == 0
    assert main(["explain", f"runs/{name}", "--step", "0"]) == 0


def test_its_runs_are_listed(capfd):
    assert main(["list", "runs", "--json"]) == 0
    states = {Path(run["run"]).name: run["state"] for run in json.loads(capfd.readouterr().out)["runs"]}
    assert states == dict(zip(sorted(RUNS), ["STOPPED", "SUCCEEDED", "STOPPED", "SUCCEEDED"], strict=True))


SETTINGS = ["data.source=digits", "model.hidden=[4]", "global_batch_size=128", "microbatch_size=32", "epochs=2"]
STUDIES = {
    "batch-size": ["--batch-sizes", "128,512", "--trials", "4", "--minutes", "0.05", "--goals", "0.8,0.7"],
    "order": ["--runs", "2"],
    "workers": ["--workers", "1,2", "--batch-size-study", "studies/batch-size"],
}


@pytest.mark.parametrize("kind", STUDIES)
def test_its_study_goes_on_without_measuring_again_and_is_reported(kind):
    folder = Path("studies") / kind
    before = (folder / "trials.jsonl").read_text().splitlines()
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    assert main(["study", kind, *settings, *STUDIES[kind], "--out", str(folder)]) == 0
    after = (folder / "trials.jsonl").read_text().splitlines()
    assert after[: len(before)] == before
    new = [json.loads(line)["key"] for line in after[len(before) :]]
    later = ("walk/", "rules/", "windows/")  # their keys have computed rates, or 0.1.0 did not measure them
    assert [key for key in new if not key.startswith(later)] == []
    assert (folder / "report.html").stat().st_size > 10_000


def test_its_study_of_another_recipe_is_refused(capfd):
    settings = [part for setting in [*SETTINGS, "seed=1"] for part in ("--set", setting)]
    assert main(["study", "order", *settings, *STUDIES["order"], "--out", "studies/order"]) == 2
    assert "holds a study with other settings" in capfd.readouterr().err


NEWER = "(format 99); this is version"


def test_a_run_of_a_newer_version_is_told_in_one_sentence(capfd):
    path = Path("runs/stopped/config.yaml")
    values = yaml.safe_load(path.read_text())
    values["recipe"]["optimizer"]["kind"] = "adamw"  # which this version cannot know
    values["written_by"] = {"distbp": "9.8", "format": 99}
    path.write_text(yaml.safe_dump(values))
    commands = (
        ["evaluate", "runs/stopped"],
        ["predict", "runs/stopped", "--data", "digits", "--out", "p.csv"],
        ["explain", "runs/stopped"],
        ["report", "runs/stopped", "--out", "page.html"],
        ["train", "--name", "stopped"],
    )
    for command in commands:
        assert main(command) == 4, command
        assert f"was written by distbp 9.8 {NEWER}" in " ".join(capfd.readouterr().err.split())
    assert main(["train", "runs/stopped/config.yaml"]) == 2
    assert NEWER in " ".join(capfd.readouterr().err.split())


def test_a_result_of_a_newer_version_is_told_in_one_sentence(capfd):
    path = Path("runs/finished/result.json")
    path.write_text(json.dumps({"ended": {}, "written_by": {"distbp": "9.8", "format": 99}}))
    assert main(["verify", "runs/finished", "runs/finished"]) == 4
    assert f"result.json' was written by distbp 9.8 {NEWER}" in " ".join(capfd.readouterr().err.split())


def test_what_a_later_version_says_beyond_what_is_known_is_ignored(capfd):
    """Within one format: in the result, in manifests and positions, in the logs."""
    run = RunDirectory.open("runs/finished")
    result = run.read_result()
    run.write_result({**result, "energy_j": 3.0})
    for path in Path("runs/finished/checkpoints").glob("*/manifest.json"):
        values = json.loads(path.read_text())
        del values[SEAL]
        values = {**values, "compressed": False, "position": {**values["position"], "tokens": 1}}
        path.write_text(json.dumps({**values, SEAL: seal(values)}))
    for name in ("steps.jsonl", "events.jsonl"):
        path = Path("runs/finished") / name
        lines = [{**json.loads(line), "tokens": 1} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Path("runs/finished/events.jsonl").open("a") as file:
        file.writelines(f'{{"time": "2026-11-27T16:02:52+00:00", "kind": "{k}"}}\n' for k in ("formed", "lost", "new"))
    config = config_of("finished")
    assert train(config.recipe, config.placement, name="finished").digest == result["digest"]
    assert verify("runs/finished", "runs/finished").same
    for command in (["evaluate", "runs/finished"], ["report", "runs/finished", "--out", "page.html"], ["list", "runs"]):
        assert main(command) == 0, capfd.readouterr().err


def test_a_study_of_a_newer_version_is_told_in_one_sentence(capfd):
    path = Path("studies/order/study.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "written_by": {"distbp": "9.8", "format": 99}}))
    assert main(["study", "order", "--out", "studies/order"]) == 4
    assert f"was written by distbp 9.8 {NEWER}" in " ".join(capfd.readouterr().err.split())


def test_its_config_reads_back_as_the_same_after_it_was_written_anew():
    stored = decode_config(Path("runs/table/config.yaml").read_bytes(), "config.yaml")
    again = decode_config(stored.with_recipe(stored.config.recipe).encode(), "config.yaml")
    assert again.config == stored.config
    assert again.owns(stored.config.recipe.digest_of_0_1_0)
