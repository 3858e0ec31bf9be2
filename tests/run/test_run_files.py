"""How files of a run, and those that commands write, come to be: their modes, their order on the disk, no links."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distbp import Placement, Recipe, train
from distbp.cli.app import run as run_command
from distbp.errors import StorageError
from distbp.machine.aside import replace_file
from distbp.run import CheckpointStore, RunDirectory
from distbp.run.checkpoints.rescue import save_aside

pytestmark = pytest.mark.slow

UMASK = 0o027


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(UMASK)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): stat.S_IMODE(p.stat().st_mode) for p in folder.rglob("*")}


@pytest.mark.usefixtures("umask")
def test_every_file_and_folder_has_the_mode_that_umask_gives(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.model_validate({"epochs": 1, "model": {"hidden": [3]}, "global_batch_size": 700})
    train(recipe, Placement(storage="runs"), name="a")
    run = RunDirectory.open("runs/a")
    save_aside(run, CheckpointStore(run, keep=1).load_latest(), True, {"steps.jsonl": b"{}\n"})
    commands = (
        "report runs/a --out report.html",
        "explain runs/a --out explain.html",
        "predict runs/a --data digits --out p.csv",
        "predict runs/a --data digits --out p.parquet",
        "predict runs/a --data digits --out p.npz",
        "study order --runs 2 --out study --set recipe.epochs=1 --set recipe.global_batch_size=700",
    )
    assert [run_command(command.split()) for command in commands] == [0] * len(commands)
    found = modes(tmp_path)
    assert {name: mode for name, mode in found.items() if mode not in (0o777 & ~UMASK, 0o666 & ~UMASK)} == {}
    assert {"runs/a/result.json", "study/trials.jsonl", "study/report.html"} <= found.keys()


def write(target: Path, content: str = "new") -> None:
    with replace_file(target) as aside:
        aside.write_text(content)


def test_replacing_a_file_writes_to_no_other_file_and_through_no_link(tmp_path):
    (tmp_path / "page.tmp").write_text("mine")
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "page.html").symlink_to(tmp_path / "precious")
    write(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "new"
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "page.tmp").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["page.html", "page.tmp", "precious"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write(tmp_path / "page.html", "old")
    with pytest.raises(ZeroDivisionError), replace_file(tmp_path / "page.html") as aside:
        aside.write_text(str(1 / 0))
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("page.html", "old")]


def test_pipes_devices_and_folders_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "link", "folder"):
        before = (tmp_path / name).lstat()
        with pytest.raises(OSError, match="it is a"):
            write(tmp_path / name)
        assert (tmp_path / name).lstat() == before


@pytest.mark.parametrize(
    "command",
    [
        "report runs/a --out {out}.html",
        "explain runs/a --out {out}.html",
        "predict runs/a --data digits --out {out}.csv",
    ],
)
def test_commands_write_aside_under_a_fresh_name(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.model_validate({"epochs": 1, "model": {"hidden": [3]}, "global_batch_size": 700})
    train(recipe, Placement(storage="runs"), name="a")
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out.tmp").symlink_to(tmp_path / "precious")
    before = set(tmp_path.iterdir())
    assert run_command(command.format(out="out").split()) == 0
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "out.tmp").is_symlink()
    assert len(set(tmp_path.iterdir()) - before) == 1


class DiskDiary:
    """What is written, synced and renamed below a folder, in order; an audit hook with os.fsync watched beside it."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.entries: list[tuple[str, str]] = []

    def note(self, event: str, arguments: tuple) -> None:
        if self.folder is None or event not in ("os.rename", "os.mkdir"):
            return
        paths = [os.fspath(path) for path in arguments[: 2 if event == "os.rename" else 1]]
        if str(paths[-1]).startswith(self.folder):
            self.entries.append((event, "\n".join(map(str, paths))))


DIARY = DiskDiary()
sys.addaudithook(DIARY.note)


def test_what_is_renamed_is_on_the_disk_before_and_its_folder_after(tmp_path, monkeypatch):
    fsync = os.fsync

    def note_sync(descriptor: int) -> None:
        DIARY.entries.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(DIARY, "folder", str(tmp_path))
    monkeypatch.setattr(DIARY, "entries", [])
    recipe = Recipe.model_validate({"epochs": 1, "model": {"hidden": [3]}, "global_batch_size": 700})
    train(recipe, Placement(storage=f"{tmp_path}/new/runs"), name="a")
    entries = list(DIARY.entries)
    renames = [(i, *paths.split("\n")) for i, (event, paths) in enumerate(entries) if event == "os.rename"]
    promises = [(i, old, new) for i, old, new in renames if "lock.json" not in new]
    assert len(promises) >= 4
    for i, old, new in promises:
        assert ("sync", old) in entries[:i], new
        assert ("sync", str(Path(new).parent)) in entries[i:], new
    for i, (event, path) in enumerate(entries):
        if event == "os.mkdir" and ".tmp-" not in path:
            assert ("sync", str(Path(path).parent)) in entries[i:], path


def test_a_lock_of_another_program_on_the_folder_is_a_sentence(tmp_path, monkeypatch):
    import fcntl

    monkeypatch.setattr("distbp.run.storage.local_folder.FLOCK_TIMEOUT_S", 0.05)
    train(Recipe(epochs=1, global_batch_size=700), Placement(storage=str(tmp_path)), name="a")
    descriptor = os.open(tmp_path / "a", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match=r"another program has held a lock on this folder \(flock\).*end that"):
            train(Recipe(epochs=1, global_batch_size=700), Placement(storage=str(tmp_path)), name="a")
    finally:
        os.close(descriptor)
