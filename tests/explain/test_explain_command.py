"""`distbp explain` as its users meet it: the terminal, the document, the page's file, and mistakes."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from distbp import Placement, Recipe, explain_run, train
from distbp.__main__ import main
from distbp.cli.explain_view import draw_picture
from distbp.explain.page import render_page
from distbp.explain.page.contents import MOST_NEURONS, MOST_OUTPUTS, choose_neurons

pytestmark = pytest.mark.slow


@pytest.fixture
def run(train_small, folder, monkeypatch) -> str:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    return train_small().run


def read_contents(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_terminal_shows_the_lesson_in_80_columns(run, capfd):
    assert main(["explain", run, "--example", "3"]) == 0
    out = capfd.readouterr().out
    told = out.replace(str(run), "run")  # how long the path is depends on who runs the tests
    assert max(map(len, told.splitlines())) <= 80
    for heading in ("Example 3 of training", "Three ways to raise output", "Backwards", "The average", "Listening to"):
        assert f"\n{heading}" in out
    shown = {
        line.split()[0]: line.split()[1:]
        for line in out.split("Three ways")[0].splitlines()
        if re.match(r"^[012]  ", line)
    }
    example = explain_run(run, 3).example
    for number in range(3):
        assert float(shown[str(number)][0]) == pytest.approx(example.outputs[number], abs=1e-4)
        assert float(shown[str(number)][2]) == pytest.approx(example.nudges[-1][number], rel=0.01)


def test_the_document_holds_every_number(run, middle_step, capfd):
    step = middle_step(run)
    assert main(["explain", run, "--example", "3", "--neuron", "2:1", "--step", str(step), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    explanation = explain_run(run, 3, step=step, neuron=(2, 1))
    example, layers = explanation.example, document["example"]["layers"]
    for layer in range(4):
        for name in ("activations", "z", "deltas", "nudges"):
            assert layers[layer][name] == getattr(example, name)[layer].tolist()
    assert document["step"] == step
    assert document["example"]["output_wishes"] == example.wishes(3).tolist()
    assert document["neuron"]["layer"] == 2
    assert (
        document["neuron"]["ways"][1]["single"]["cost_measured"]
        == explanation.neuron.ways[1].single.cost_measured.tolist()
    )
    assert document["table"]["wishes"] == explanation.table.wishes.tolist()
    assert [pull["share"] for pull in document["batch"]["examples"]] == explanation.batch.shares.tolist()
    assert document["listening"][0]["called"] == explanation.listening[0].called.tolist()
    assert document["all"]["costs"]["counts"] == explanation.spread.counts.tolist()
    for weight in document["example"]["strongest_weights"]:
        assert weight["nudge"] == example.weight_nudges(weight["layer"])[weight["neuron"], weight["before"]]


def test_the_page_is_written_whole_and_replaces_the_old_one(run, folder, capfd):
    page = folder / "page.html"
    page.write_text("old")
    assert main(["explain", run, "--out", "page.html"]) == 0
    assert "The page to explore it all: page.html" in capfd.readouterr().out
    assert page.read_text() == render_page(explain_run(run))
    assert not [path for path in folder.iterdir() if path.name.startswith(".tmp")]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        ("--example 96", 2, "no example 96 in training, which has 96; choose one from 0 to 95"),
        ("--example x", 2, "a valid integer"),
        ("--neuron 3", 2, "neuron='3' is not a neuron; expected LAYER:J such as 1:17"),
        ("--neuron 2:9", 2, "layer 2 has no neuron 9; it has the neurons 0 to 3"),
        ("--step 999", 4, "no checkpoint of step 999"),
        ("--step last", 2, "expected final, best, or the number of a step"),
        ("--data none.csv", 3, "'none.csv' does not exist"),
        ("--out page.pdf", 2, "a page is written as .html; did you mean 'page.html'?"),
        ("--out nowhere/page.html", 4, "there is no folder 'nowhere'; create it first"),
        ("--out .html/", 2, "a page is written as .html"),
    ],
)
def test_mistakes_get_one_sentence(run, capfd, arguments, exit_code, sentence):
    assert main(["explain", run, *arguments.split()]) == exit_code
    out, err = capfd.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1
    assert main(["explain", run, *arguments.split(), "--json"]) == exit_code
    assert sentence in json.loads(capfd.readouterr().out)["error"]["message"]


def test_a_model_of_the_users_own_is_refused(folder, capfd, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend("")
    (folder / "linear_model.py").write_text(
        "from distbp.config import Model\nfrom distbp.nn.mlp import build_mlp\n"
        "def build(num_inputs, num_outputs):\n"
        "    return build_mlp(Model(hidden=()), num_inputs, num_outputs, True, 'float32')\n"
    )
    command = ["train", "--set", "epochs=1", "--set", "model.function=linear_model:build", "--name", "own"]
    assert main([*command, "--storage", "own"]) == 0
    assert main(["explain", "own/own"]) == 2
    assert "linear_model:build, which distbp cannot look into" in capfd.readouterr().err


def test_labels_cannot_break_out_of_the_page(folder, monkeypatch):
    monkeypatch.chdir(folder)
    rng, evil = np.random.default_rng(0), ["</script><b>x", "<!-- & 'y'"]
    kinds = rng.integers(0, 2, 60)
    table = {"a<i>": rng.normal(size=60) + kinds, "b": rng.normal(size=60), "kind": [evil[kind] for kind in kinds]}
    csv.write_csv(pa.table(table), "evil.csv")
    recipe = {
        "data": {"source": "evil.csv", "target": "kind"},
        "model": {"hidden": []},
        "global_batch_size": 20,
        "epochs": 1,
    }
    run = train(Recipe.model_validate(recipe), Placement(storage="evil"), name="evil").run
    page = render_page(explain_run(run))
    assert evil[0] not in page
    assert page.count("</script>") == 2
    contents = read_contents(page)
    assert sorted(contents["layers"][-1]["names"]) == sorted(evil)
    assert contents["layers"][0]["names"] == ["a<i>", "b"]


@pytest.mark.slow
def test_large_layers_are_thinned_to_what_matters_most_and_nothing_is_lost(folder):
    data = {"source": "digits"}
    recipe = Recipe.model_validate({"data": data, "model": {"hidden": [40, 30]}, "epochs": 1, "global_batch_size": 256})
    explanation = explain_run(
        train(recipe, Placement(storage=str(folder / "thin")), name="thin").run, 2, neuron=(1, 39)
    )
    example = explanation.example
    drawn = choose_neurons(explanation, [example])
    assert [len(layer) for layer in drawn] == [64, MOST_NEURONS, MOST_NEURONS, min(10, MOST_OUTPUTS)]
    assert 39 in drawn[1]
    importance = np.abs(example.nudges[2] * example.activations[2])
    assert set(drawn[2]) == set(np.argsort(-importance, kind="stable")[:MOST_NEURONS])
    contents = read_contents(render_page(explanation))
    shown, others = contents["examples"][0], contents["examples"][0]["others"]
    drawn = [np.array(layer["drawn"]) for layer in contents["layers"]]
    wishes = -np.array(shown["layers"][2]["delta"])[:, None] * example.network.weight(2)[np.ix_(drawn[2], drawn[1])]
    total = wishes.sum(axis=0) + others[2]
    assert total.tolist() == pytest.approx(example.nudges[1][drawn[1]].tolist(), rel=1e-5, abs=1e-8)


@pytest.mark.slow
def test_a_page_of_a_784_128_64_10_network_is_small_and_asks_for_nothing(large_page):
    text = large_page.read_text()
    assert len(text.encode()) < 2_000_000
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "default-src 'none'" in text


def test_pictures_in_the_terminal_are_grey_and_only_pictures():
    picture = draw_picture(np.array([[0, 16], [8, 4]]))
    assert picture == "    ██\n  ▒▒░░"
    assert draw_picture(np.zeros(64)) is None
    assert draw_picture(np.zeros((8, 8, 3))) is None
    assert len(draw_picture(np.eye(28)).splitlines()) == 14
