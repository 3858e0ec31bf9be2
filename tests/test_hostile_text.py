"""Labels, names, paths and logs are shown as they are: none is markup, a formula or a command to the terminal."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from rich.table import Table
from rich.text import Text

from distbp.__main__ import main
from distbp.cli.job_tables import make_run_table
from distbp.cli.tables import format_pairs
from distbp.cli.terminal import Terminal
from distbp.service.storage import StoredRun
from distbp.text.printable import printable

pytestmark = pytest.mark.slow

LABELS = [
    "[x]",
    "[/red]",
    "[/]",
    "[bold]b[/bold]",
    "<b>bold</b>",
    "<script>alert(1)</script>",
    "$x_1^2$",
    "$",
    ":smile:",
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "two\nlines",
    "a\ttab",
    "back\b\rspace",
    "&amp;",
    "'single'",
    '"double"',
    "_hidden",
    "{{ 7 * 7 }}",
    "\u202eright to left",
    "👨‍👩‍👧",
    "\x9b31m",
    "lo" + "n" * 300 + "g",
]
COLUMN = "[kind]\x1b[1m<i>$x$"
DANGEROUS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with [/red] in its name, hostile.csv, and the run runs/r trained on it."""
    folder = tmp_path_factory.mktemp("hostile") / "d [/red] $x$ <b>"
    (folder / "p [").mkdir(parents=True)
    numbers = np.random.default_rng(0)
    with (folder / "[low].csv").open("w", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        writer.writerow(["[a]", "<b>", COLUMN])
        writer.writerows([*numbers.normal(size=2).round(3), label] for label in LABELS * 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", sys.path[:])
        settings = {"data.source": "[low].csv", "data.target": COLUMN, "model.hidden": [4], "epochs": 2}
        options = [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]
        assert main(["train", *options, "--workers", "1", "--name", "r"]) == 0
        shutil.copytree("runs/r", "runs/_[r]$x_1^2$<i>")
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", sys.path[:])


COMMANDS = {
    "train": ["train", "--set", 'data.source="[low].csv"', "--set", f"data.target={json.dumps(COLUMN)}", "--set",
              "epochs=1", "--workers", "1", "--storage", "[/x]", "--set", "model.hidden=[4]"],
    "evaluate": ["evaluate", "runs/r"],
    "predict": ["predict", "runs/r", "--data", "[low].csv", "--out", "p [/a].csv", "--probabilities"],
    "explain": ["explain", "runs/r", "--example", "3"],
    "verify": ["verify", "runs/r", "runs/_[r]$x_1^2$<i>"],
    "report": ["report", "runs/r", "runs/_[r]$x_1^2$<i>", "--out", "[/page].html"],
    "list": ["list", "runs"],
    "list nothing": ["list", "[/red]"],
    "no such run": ["evaluate", "[/red]\x1b[1m"],
    "no such data": ["evaluate", "runs/r", "--data", "[/red]\x1b[1m.csv"],
    "config": ["config", "--set", 'data.source="[/old]/x.csv"'],
    "unknown option": ["train", "--[/red]"],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_reads_text_as_markup_or_lets_control_characters_through(command, capfd):
    code = main(COMMANDS[command])
    out, err = capfd.readouterr()
    assert "defect" not in err
    assert "Markup" not in err
    assert not DANGEROUS.search(out + err)
    assert code == {"no such run": 4, "no such data": 3, "unknown option": 2}.get(command, 0), err
    for word in ("[/red]", "[/old]", "[/page]", "p [/a].csv", "[/x]"):
        assert word in out + err or not any(word in argument for argument in COMMANDS[command])


def test_every_label_is_shown_whole(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "600")
    assert main(["evaluate", "runs/r"]) == 0
    shown = {
        line.rsplit(maxsplit=4)[0].rstrip() for line in capfd.readouterr().out.splitlines() if line.count(".") >= 3
    }
    assert {printable(label) for label in LABELS} <= shown


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_predictions_hold_the_labels_themselves(suffix, capfd):
    assert main(["predict", "runs/r", "--data", "[low].csv", "--out", f"p{suffix}", "--probabilities"]) == 0
    assert not DANGEROUS.search("".join(capfd.readouterr()))
    if suffix == ".parquet":
        names = parquet.read_table("p.parquet").column_names
    elif suffix == ".csv":
        with open("p.csv", newline="") as stream:  # noqa: PTH123
            names = next(csv.reader(stream))
    else:
        names = np.load("p.npz").files
    assert names == [COLUMN, *(f"probability_{label}" for label in sorted(LABELS))]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_predictions_are_written_under_a_name_that_is_not_utf8(suffix, capfd):
    name = os.fsdecode(b"p\xff.") + suffix
    assert main(["predict", "runs/r", "--data", "[low].csv", "--out", name]) == 0, capfd.readouterr().err
    assert Path(name).stat().st_size > 0


def test_pages_show_names_and_labels_as_text():
    assert main(["explain", "runs/r", "--example", "3", "--out", "e.html"]) == 0
    assert main(["report", "runs/r", "runs/_[r]$x_1^2$<i>", "--out", "r.html"]) == 0
    explained, reported = Path("e.html").read_text(), Path("r.html").read_text()
    assert "<script>alert" not in explained
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', explained, re.S)[1])
    assert set(LABELS) <= set(find_texts(data))
    assert "[r]$x_1^2$<i>" not in reported
    svgs = re.findall(r"<svg.*?</svg>", reported, re.S)
    assert any("_[r]$x_1^2$<i>" in html.unescape(svg) for svg in svgs)


def find_texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for each in inner for text in find_texts(each)]


@pytest.mark.parametrize("text", LABELS)
def test_whatever_is_printed_nothing_but_richs_own_codes_act(text, capfd):
    terminal = Terminal(as_json=False)
    table = Table(text)
    table.add_row(text)
    run = StoredRun(**dict.fromkeys(StoredRun.__dataclass_fields__) | {"run": text, "state": text, "steps": 1})
    terminal.show(text, Text(text), table, format_pairs({"x": text}), make_run_table([run]))
    terminal.note(text)
    out, err = capfd.readouterr()
    assert not DANGEROUS.search(out + err)
    assert printable(text, keep="\n\t").expandtabs() in out
    assert printable(text, keep="\n\t").expandtabs() in err


FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


@pytest.mark.parametrize(
    ("text", "shown"), [("ünï 日本", "ünï 日本"), ("a\x1b\n", r"a\x1b\n"), ("\udc80", r"\udc80"), (FAMILY, FAMILY)]
)
def test_only_what_acts_is_written_out(text, shown):
    assert printable(text) == shown
