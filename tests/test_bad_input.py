"""Every mistake a user can make gets one sentence and its exit code, and never damages a finished run."""

from __future__ import annotations

import gzip
import json
import shlex
import shutil
import struct
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from distbp.__main__ import main

pytestmark = pytest.mark.slow

USAGE, DATA, STORAGE, DIVERGED, FAILED, DIFFERENT = 2, 3, 4, 6, 1, 9


@dataclass(frozen=True)
class Case:
    """A command line, its exit code, and parts of the sentence it must get."""

    name: str
    command: str
    exit_code: int
    fragments: tuple[str, ...]


def case(name: str, command: str, exit_code: int, *fragments: str) -> Case:
    return Case(name, command, exit_code, fragments)


def train(name: str, setting: str, exit_code: int, *fragments: str) -> Case:
    """A training command with one --set."""
    return Case(name, f"train --set {shlex.quote(setting)}", exit_code, fragments)


COMMAND_LINE = [
    case("misspelt command", "trian", USAGE, "no such command 'trian'", "did you mean 'train'?"),
    case("unknown option", "train --worker 3", USAGE, "no option --worker", "did you mean --workers?"),
    case("field as option", "train --learning-rate 1", USAGE, "--set recipe.optimizer.learning_rate=VALUE"),
    case("option before command", "--json-lines train", USAGE, "no option --json-lines"),
    case("debug before command", "--debug train", USAGE, "after the command", "distbp train --debug"),
    train("threads beyond reason", "placement.threads_per_worker=100000", USAGE, "must be at most 1024"),
    case("no value for option", "train --name", USAGE, "--name", "requires an argument"),
    case("bad choice", "train --resume always", USAGE, "'always' is not one of", "'must'"),
    case("too many arguments", "train good.yaml b.yaml", USAGE, "unexpected extra argument", "b.yaml"),
    case("missing argument", "evaluate", USAGE, "missing argument 'RUN'", "distbp evaluate --help"),
    case("missing option", "predict runs/good --out p.csv", USAGE, "missing option '--data'"),
    case("one run to verify", "verify runs/good", USAGE, "missing argument 'RUN_B'"),
    case("set without value", "train --set epochs", USAGE, "--set epochs", "KEY=VALUE"),
    case("set without key", "train --set =3", USAGE, "--set =3", "KEY=VALUE"),
    case("set with bad yaml", "train --set model.hidden=[1", USAGE, "--set model.hidden=[1", "not valid YAML"),
    case("tag that does not fit", "train --set 'epochs=!!bool x'", USAGE, "--set epochs=!!bool x", "leave the tag out"),
    case("date that is none", "train --set 'epochs=!!timestamp x'", USAGE, "not valid YAML", "leave the tag out"),
    case("set below a value", "train --set seed=1 --set seed.x=2", USAGE, "'seed' is a whole number, not a section"),
    case("forgotten --set", "train epochs=3", USAGE, "did you mean --set epochs=3?"),
    case("bad backend", "train --backend rai", USAGE, "placement.backend='rai'", "did you mean 'ray'?"),
    case("no workers", "train --workers 0", USAGE, "placement.workers=0", "greater than 0"),
    case("workers in words", "train --workers two", USAGE, "placement.workers is text ('two')", "a whole number"),
    case("workers from more to fewer", "train --workers 4:2", USAGE, "workers=[4, 2]", "write [2, 4]"),
    case("workers from none", "train --workers 0:2", USAGE, "placement.workers.0=0", "greater than 0"),
    case("three worker counts", "train --set workers=[1,2,3]", USAGE, "placement.workers", "two whole numbers"),
    case("one worker count in a list", "train --set workers=[1]", USAGE, "placement.workers", "two whole numbers"),
    case("bad run name", "train --name a/b", USAGE, "run name 'a/b' cannot be used"),
    case("hidden run name", "train --name .a", USAGE, "run name '.a' cannot be used", "no dot"),
    case("bad step", "evaluate runs/good --step last", USAGE, "'last'", "final, best, or the number of a step"),
]

CONFIGURATION = [
    train("misspelt section", "optimiser.momentum=0", USAGE, "unknown key 'optimiser'", "did you mean 'optimizer'?"),
    train("misspelt key", "recipe.model.hiden=[3]", USAGE, "'hiden' in recipe.model", "did you mean 'hidden'?"),
    train("key in the wrong place", "learning_rate=1", USAGE, "did you mean 'recipe.optimizer.learning_rate'?"),
    train("unknown key", "optimizer.lr=1", USAGE, "unknown key 'lr'", "known: kind, learning_rate, momentum"),
    train("misspelt placement", "placement.worker=1", USAGE, "'worker' in placement", "did you mean 'workers'?"),
    train("text for a number", "epochs=many", USAGE, "recipe.epochs is text ('many')", "a whole number"),
    train("fraction for a count", "epochs=1.5", USAGE, "recipe.epochs is a number (1.5)", "a whole number"),
    train("truth for a count", "epochs=true", USAGE, "recipe.epochs is true/false", "a whole number"),
    train("number for a list", "model.hidden=4", USAGE, "recipe.model.hidden is a whole number (4)", "a list"),
    train("text in a list", "model.hidden=[a]", USAGE, "recipe.model.hidden.0 is text ('a')"),
    train("number for text", "data.target=3.5", USAGE, "recipe.data.target is a number (3.5)", "text or a list"),
    train("numbers for texts", "data.target=[1.5,2]", USAGE, "recipe.data.target.0 is a number (1.5)"),
    train("value for a section", "data=3", USAGE, "recipe.data is a whole number (3)", "a section with keys"),
    train("empty section", "optimizer=null", USAGE, "recipe.optimizer is empty"),
    train("zero epochs", "epochs=0", USAGE, "recipe.epochs=0 must be greater than 0"),
    train("layer without neurons", "model.hidden=[8,0]", USAGE, "recipe.model.hidden.1=0"),
    train("negative seed", "seed=-1", USAGE, "recipe.seed=-1 must be at least 0"),
    train("dropout of everything", "model.dropout=1", USAGE, "recipe.model.dropout=1 must be less than 1"),
    train("rate that is no number", "optimizer.learning_rate=.nan", USAGE, "learning_rate=nan", "finite"),
    train("infinite rate", "optimizer.learning_rate=.inf", USAGE, "learning_rate=inf", "finite"),
    train("validation above 1", "data.validation=2", USAGE, "recipe.data.validation=2 must be less than 1"),
    train("misspelt choice", "model.activation=rellu", USAGE, "'rellu'", "did you mean 'relu'?"),
    train("unknown dtype", "dtype=float16", USAGE, "'float16'", "did you mean"),
    train("microbatch above batch", "microbatch_size=99", USAGE, "microbatch_size=99", "global_batch_size=64"),
    train(
        "nesterov without momentum",
        "optimizer={nesterov: true,momentum: 0}",
        USAGE,
        "nesterov needs sgd with a momentum",
    ),
    train("scaling without reference", "schedule.lr_scaling=linear", USAGE, "needs reference_batch_size"),
    train("bad function name", "model.function=foo", USAGE, "recipe.model.function is text ('foo')", "my_module:build"),
    train("options without function", "model.options={a: 1}", USAGE, "options belong to a builder"),
    case(
        "cross-entropy for numbers",
        "train --set data.source=numbers.csv --set model.loss=cross_entropy",
        USAGE,
        "cross_entropy needs classes",
        "squared_error",
    ),
    case("missing file", "train nothing.yml", USAGE, "'nothing.yml'", "No such file", "check the path"),
    case("misspelt file", "train goood.yaml", USAGE, "'goood.yaml'", "did you mean 'good.yaml'?"),
    case("folder as file", "train runs", USAGE, "'runs'", "directory"),
    case("binary file", "train pixels.npy", USAGE, "'pixels.npy' is not UTF-8 text"),
    case("torn yaml", "train torn.yaml", USAGE, "'torn.yaml' is not valid YAML", "line"),
    case("yaml list", "train list.yaml", USAGE, "'list.yaml' holds a list", "recipe and placement"),
    case("key given twice", "train twice.yaml", USAGE, "key 'seed' is given twice", "line 3"),
    case("aliases without end", "train bomb.yaml", USAGE, "'bomb.yaml'", "stands for more than 100,000 values"),
    case("alias of itself", "train loop.yaml", USAGE, "'loop.yaml'", "an alias stands for what it is part of"),
    case("several mistakes", "train wrong.yaml", USAGE, "'wrong.yaml'", "'epoch'", "'epochs'?", "momentum=3"),
    case("recipe at the top", "train flat.yaml", USAGE, "unknown key 'epochs' in the top level", "'recipe.epochs'?"),
]

USER_FUNCTIONS = [
    train("no such module", "model.function=gone:build", USAGE, "cannot import 'gone'"),
    train("no such attribute", "model.function=my_models:gone", USAGE, "'my_models' has no 'gone'"),
    train("module that fails", "model.function=broken_module:build", FAILED, "broken_module.py', line 1"),
    train("function that raises", "model.function=my_models:fails", FAILED, "no idea", "my_models.py', line"),
    train("function returns garbage", "model.function=my_models:garbage", USAGE, "has no layout, init"),
    train("function takes nothing", "model.function=my_models:takes_nothing", USAGE, "num_inputs=64"),
    train("gradient that raises", "model.function=my_models:Shapeless", FAILED, "my_models.py', line", "shape"),
]

DATA_FILES = [
    train("missing data", "data.source=gone.csv", DATA, "'gone.csv' does not exist"),
    train("misspelt digits", "data.source=digit", DATA, "did you mean 'digits'?"),
    train("unknown suffix", "data.source=notes.txt", DATA, "'.txt'", "supported are"),
    train("data at a strange url", "data.source=htp://x.y/a.csv", DATA, "htp:// is no known kind of storage"),
    train("folder without idx", "data.source=runs", DATA, "has no train-images-idx3-ubyte"),
    train("empty csv", "data.source=empty.csv", DATA, "'empty.csv'", "empty"),
    train("header only", "data.source=header.csv", DATA, "'header.csv'", "no rows"),
    train("ragged csv", "data.source=ragged.csv", DATA, "'ragged.csv'", "columns"),
    case(
        "text that is to be a number",
        "train --set data.source=words.csv --set data.validation=0.0 --set data.columns.a=number",
        DATA,
        "column 'a' is 'red' in data row 1",
        "data.columns.a to category or ignore",
    ),
    case(
        "unknown column",
        "train --set data.source=words.csv --set data.validation=0.0 --set data.columns.z=date",
        DATA,
        "data.columns names 'z'",
    ),
    train("infinity in csv", "data.source=infinite.csv", DATA, "column 'a' in data row 2 is inf"),
    train("no target column", "data.source=plain.csv", DATA, "no target column", "set target"),
    case("misspelt target", "train --set data.source=good.csv --set data.target=labl", DATA, "did you mean 'label'?"),
    train("one class", "data.source=same.csv", DATA, "every target", "at least 2 classes"),
    train("csv called parquet", "data.source=mixed.parquet", DATA, "'mixed.parquet'", "Parquet"),
    train("torn parquet", "data.source=torn.parquet", DATA, "'torn.parquet'", "Parquet"),
    train("torn npz", "data.source=torn.npz", DATA, "'torn.npz'"),
    train("npz without x", "data.source=without.npz", DATA, "has no array x", "'a'"),
    train("nan in npz", "data.source=nan.npz", DATA, "x[1, 0] is nan"),
    train("uneven npz", "data.source=uneven.npz", DATA, "6 examples", "4 targets"),
    train("npy without targets", "data.source=pixels.npy", DATA, "set target"),
    train("torn npy", "data.source=torn_x.npy", DATA, "'torn_x.npy'"),
    train("npy of objects", "data.source=objects_x.npy", DATA, "'objects_x.npy'", "pickled"),
    train("torn idx", "data.source=torn-images-idx3-ubyte", DATA, "ends after"),
    train("idx that is none", "data.source=none-images-idx3-ubyte.gz", DATA, "'none-images-idx3-ubyte.gz'"),
    train("images as labels", "data.source=mixed", DATA, "image file", "expected labels"),
    train("validation missing", "data.validation=gone.npz", DATA, "'gone.npz' does not exist"),
    train("validation is training", "data.validation=digits", DATA, "training data itself"),
    train("text for regression", "data={source: good.csv,task: regression}", DATA, "regression needs numbers"),
]

RUNS = [
    case("no run", "evaluate runs/gone", STORAGE, "there is no run 'runs/gone'", "bare"),
    case("storage as run", "evaluate runs", STORAGE, "'runs' is no run", "'runs/"),
    case("file as run", "evaluate good.csv", STORAGE, "'good.csv' is a file, not a run"),
    case("no such step", "evaluate runs/good --step 3", STORAGE, "no checkpoint of step 3", "it has: 23"),
    case("no validation part", "evaluate runs/bare", DATA, "without validation data", "--data"),
    case("other features", "evaluate runs/good --data four.npz", DATA, "(4,)", "(8, 8)"),
    case("other labels", "evaluate runs/good --data eleven.npz", DATA, "the label 10", "classes are"),
    case(
        "missing feature column", "predict runs/table --data plain.csv --out p.csv", DATA, "no feature column 'width'"
    ),
    case("prediction data missing", "predict runs/good --data gone.npz --out p.csv", DATA, "'gone.npz' does not exist"),
    case("unknown output suffix", "predict runs/good --data digits --out p.cvs", USAGE, "did you mean 'p.csv'?"),
    case("output without suffix", "predict runs/good --data digits --out p", USAGE, ".csv or .parquet or .npz"),
    case("output folder missing", "predict runs/good --data digits --out no/p.csv", STORAGE, "no folder 'no'"),
    case("output below a file", "predict runs/good --data digits --out good.csv/p.csv", STORAGE, "'good.csv'"),
    case("output is a folder", "predict runs/good --data digits --out out.csv", STORAGE, "it is a folder"),
    case("verify no run", "verify runs/good runs/gone", STORAGE, "there is no run 'runs/gone'"),
    case("verify unfinished", "verify runs/good runs/unfinished", STORAGE, "'runs/unfinished' has not finished"),
    case("verify different", "verify runs/good runs/bare", DIFFERENT, "part at step 1", "recipes or data differ"),
    case("another recipe", "train --name good --set seed=7", STORAGE, "another recipe", "recipe.seed was 0"),
    case("run exists", "train --name good --set epochs=1 --resume never", STORAGE, "'runs/good' exists"),
    case("nothing to resume", "train --name gone --resume must", STORAGE, "no run 'gone' in 'runs' to resume"),
    case("damaged config", "evaluate runs/damaged-config", STORAGE, "config.yaml' is damaged"),
    case("damaged result", "evaluate runs/damaged-result", STORAGE, "result.json' is damaged"),
    case("result without step", "evaluate runs/hollow-result", STORAGE, "result.json", "was changed"),
    case("result without digest", "verify runs/good runs/hollow-result", STORAGE, "result.json", "was changed"),
    case("damaged state", "evaluate runs/damaged-state", STORAGE, "is damaged"),
    case("damaged manifest", "evaluate runs/damaged-manifest", STORAGE, "is damaged"),
    case("no checkpoint", "evaluate runs/empty", STORAGE, "no usable checkpoint"),
    case("damaged steps", "verify runs/good runs/damaged-steps", STORAGE, "line 1 of", "steps.jsonl' is damaged"),
    case("storage is a file", "train --storage good.csv", STORAGE, "'good.csv' is a file"),
    case("storage below a file", "train --storage good.csv/runs", STORAGE, "a file is in the way"),
    case("unknown storage", "train --storage foo://x", STORAGE, "foo:// is no known kind of storage"),
    train("diverged", "optimizer.learning_rate=1e30", DIVERGED, "training diverged", "learning rate below 1e+30"),
    train("far too large", "model.hidden=[9000000000000]", FAILED, "not enough memory", "smaller model"),
]

CASES = [*COMMAND_LINE, *CONFIGURATION, *USER_FUNCTIONS, *DATA_FILES, *RUNS]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good and bad files, with finished, unfinished and damaged runs."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_configs(folder)
        write_tables(folder)
        write_arrays(folder)
        write_models(folder)
        write_runs(folder)
    return folder


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_mistake_gets_one_sentence_and_leaves_other_runs_alone(case, world, monkeypatch, capfd):
    monkeypatch.chdir(world)
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = read_files(world / "runs" / "good")

    exit_code = main(shlex.split(case.command))

    out, err = capfd.readouterr()
    assert exit_code == case.exit_code, err
    *before_error, sentence = err.splitlines()
    assert sentence.startswith("Error: "), err
    assert before_error == [] or case.exit_code == 6, err  # a run that diverges has said what it trains
    assert [fragment for fragment in case.fragments if fragment not in err] == [], err
    assert "Traceback" not in out + err
    assert out == ""
    assert read_files(world / "runs" / "good") == before


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_configs(folder: Path) -> None:
    texts = {
        "good.yaml": "recipe: {epochs: 1}\n",
        "torn.yaml": "recipe:\n  model: {hidden: [64\n",
        "list.yaml": "- recipe\n- placement\n",
        "twice.yaml": "recipe:\n  seed: 1\n  seed: 2\n",
        "bomb.yaml": "a: &a [x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefg")),
        "loop.yaml": "recipe: {model: {function: 'm:f', options: &o {a: *o}}}\n",
        "wrong.yaml": "recipe: {epoch: 3, optimizer: {momentum: 3}}\n",
        "flat.yaml": "epochs: 3\n",
        "notes.txt": "nothing\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "out.csv").mkdir()


def write_tables(folder: Path) -> None:
    rows = "".join(f"{i % 7},{i % 5},{'abc'[i % 3]}\n" for i in range(30))
    texts = {
        "good.csv": "width,height,label\n" + rows,
        "numbers.csv": "a,target\n" + "".join(f"{i},{i / 7}\n" for i in range(80)),
        "empty.csv": "",
        "header.csv": "a,b,label\n",
        "ragged.csv": "a,b,label\n1,2,x\n1,2\n",
        "words.csv": "a,b,label\nred,2,x\nblue,3,y\n",
        "holes.csv": "a,b,label\n1,2,x\n1,,y\n",
        "infinite.csv": "a,b,label\n1.5,2,x\ninf,2,y\n" + "1,2,x\n" * 8,
        "plain.csv": "a,b\n1,2\n3,4\n",
        "same.csv": "a,label\n" + "1,x\n" * 9,
        "mixed.parquet": "a,label\n1,2\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    parquet.write_table(pa.table({"a": [1.0] * 50, "label": [0, 1] * 25}), folder / "whole.parquet")
    (folder / "torn.parquet").write_bytes((folder / "whole.parquet").read_bytes()[:-20])


def write_arrays(folder: Path) -> None:
    x, y = np.ones((6, 4), np.float32), np.arange(6) % 2
    np.savez(folder / "four.npz", x=x, y=y)
    np.savez(folder / "eleven.npz", x=np.ones((11, 64), np.uint8), y=np.arange(11))
    np.savez(folder / "without.npz", a=x)
    np.savez(folder / "uneven.npz", x=x, y=y[:4])
    np.savez(folder / "nan.npz", x=np.where(np.arange(6)[:, None] == 1, np.nan, x), y=y)
    (folder / "torn.npz").write_bytes((folder / "four.npz").read_bytes()[:100])
    np.save(folder / "pixels.npy", x)
    (folder / "torn_x.npy").write_bytes((folder / "pixels.npy").read_bytes()[:-8])
    np.save(folder / "torn_y.npy", y)
    np.save(folder / "objects_x.npy", np.array([["a", 1]], dtype=object), allow_pickle=True)
    np.save(folder / "objects_y.npy", y[:1])
    images = struct.pack(">BBBBIII", 0, 0, 8, 3, 5, 2, 2) + bytes(20)
    (folder / "torn-images-idx3-ubyte").write_bytes(images[:-3])
    (folder / "torn-labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, 5) + bytes(5))
    (folder / "none-images-idx3-ubyte.gz").write_bytes(b"no gzip at all")
    (folder / "mixed").mkdir()
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        (folder / "mixed" / name).write_bytes(gzip.compress(images))


def write_models(folder: Path) -> None:
    (folder / "broken_module.py").write_text("raise RuntimeError('cannot be imported')\n")
    (folder / "my_models.py").write_text(
        """\
from distbp.nn.layout import Entry, Layout


def fails(num_inputs, num_outputs):
    raise ValueError("no idea")


def garbage(num_inputs, num_outputs):
    return 3


def takes_nothing():
    return 3


class Shapeless:
    def __init__(self, num_inputs, num_outputs):
        self.layout = Layout((Entry("w", (3,)),))

    def init(self, parameters, rng):
        parameters["w"][...] = 0

    def gradient_sums(self, parameters, x, y, gradient, rng):
        gradient["w"][...] = x

    def loss_sums(self, parameters, x, y):
        return None

    def predict(self, parameters, x):
        return x
"""
    )


def write_runs(folder: Path) -> None:
    """Train three runs, then copy one and damage the copies."""
    runs = folder / "runs"
    assert main(["train", "--set", "epochs=1", "--name", "good", "--json"]) == 0
    assert main(["train", "--set", "epochs=1", "--set", "data.validation=0.0", "--name", "bare", "--json"]) == 0
    table = ["--set", "epochs=1", "--set", "data.source=good.csv", "--set", "global_batch_size=8"]
    assert main(["train", *table, "--name", "table", "--json"]) == 0
    for name in ("unfinished", "empty", "damaged-config", "damaged-result", "hollow-result", "damaged-steps"):
        shutil.copytree(runs / "good", runs / name)
    for name in ("damaged-state", "damaged-manifest"):
        shutil.copytree(runs / "good", runs / name)
    for name in ("unfinished", "empty"):
        (runs / name / "result.json").unlink()
    shutil.rmtree(runs / "empty" / "checkpoints")
    (runs / "damaged-config" / "config.yaml").write_text("recipe: {epochs: [")
    (runs / "damaged-result" / "result.json").write_text('{"digest": ')
    (runs / "hollow-result" / "result.json").write_text(json.dumps({"run": "x"}))
    (runs / "damaged-steps" / "steps.jsonl").write_text("nonsense\n")
    (state,) = (runs / "damaged-state").glob("checkpoints/*/state*")
    state.write_bytes(bytes(state.stat().st_size))
    (manifest,) = (runs / "damaged-manifest").glob("checkpoints/*/manifest.json")
    manifest.write_text("{}")
