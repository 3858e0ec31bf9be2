"""A program that kills a training driver after every single write to storage, and says what came of each.

Arguments: the kind of storage and an empty folder. local: a folder. object_store: whole files, no renames. rescue: an
object store that refuses everything after step 1, so that the driver saves its state in the current folder, and is
killed while it does that. A child is forked for every number k of
writes; it ends, without any clean-up, before write k + 1. What it left is copied, and every command is tried on its
own copy. Prints one JSON line for each k.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from distbp import Placement, Recipe, train
from distbp.errors import DistbpError
from distbp.prediction.trained_run import load_run, parse_step
from distbp.report import read_story
from distbp.run.storage.remote_folder import RemoteFolder
from distbp.service.storage import list_stored_runs
from distbp.training import Progress
from distbp.verification.verify import verify

KILLED = 137
NAME = "run"
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")
RECIPE = Recipe.model_validate(
    {
        "data": {"source": "digits"},
        "model": {"hidden": [4]},
        "global_batch_size": 400,
        "microbatch_size": 200,
        "epochs": 1,
        "early_stopping": {"patience": 5},
    }
)


class Countdown:
    """Ends the process when it is about to write once more than allowed. left: None while nobody counts."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.opened: str | None = None

    def count(self, opened: str | None = None) -> None:
        if self.left is None:
            return
        if self.left == 0:
            self.left = None
            if self.opened is not None and Path(self.opened).exists():
                os.truncate(self.opened, Path(self.opened).stat().st_size // 2)
            os._exit(KILLED)
        self.left -= 1
        self.opened = opened


COUNTDOWN = Countdown()


class DyingFileSystem(DirFileSystem):
    """An object store in a folder: whole files, and folders only where there are files."""

    protocol = "dying"
    async_impl = False
    refuses: ClassVar[bool] = False

    def __init__(self, **options: Any) -> None:
        super().__init__(path=ROOT, fs=LocalFileSystem(auto_mkdir=True), **options)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("dying://").strip("/")

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        if options.get("mode") == "create" and self.isfile(path):
            raise FileExistsError(path)
        if self.refuses:
            raise OSError(errno.ENOSPC, "full")
        if KIND == "object_store":
            COUNTDOWN.count()
        super().pipe_file(path, value)

    def rm(self, path: str, **_: Any) -> None:
        for found in [path] if self.isfile(path) else self.find(path):
            if KIND == "object_store":
                COUNTDOWN.count()
            Path(ROOT, found).unlink()
            for folder in Path(ROOT, found).parents:
                if str(folder) == ROOT or any(folder.iterdir()):
                    break
                folder.rmdir()


def watch_local_files(event: str, arguments: tuple[Any, ...]) -> None:
    """Count what changes a file or folder below the storage; an audit hook."""
    if COUNTDOWN.left is None or event not in ("open", *CHANGES):
        return
    path = "" if isinstance(arguments[0], int) else str(Path(os.fsdecode(arguments[0])).absolute())
    if event == "open" and not (arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        return
    if path.startswith(WATCHED) or (len(arguments) > 1 and str(arguments[1]).startswith(WATCHED)):
        COUNTDOWN.count(opened=path if event == "open" else None)


def run_child(act: Callable[[], Any], num_writes: int | None = None) -> Any:
    """Return what `act` returns in a process of its own, None if that was killed after `num_writes`."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        COUNTDOWN.left = num_writes
        said = describe(act)
        COUNTDOWN.left = None
        os.write(writer, json.dumps(said).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(content) if content else None


def command(resume: str = "auto", storage: str | None = None, refuses_after: int | None = None) -> dict[str, Any]:
    def observe(progress: Progress) -> None:
        DyingFileSystem.refuses = progress.position.step == refuses_after or DyingFileSystem.refuses

    placement = Placement(storage=storage or STORAGE, checkpoint_every_steps=2, keep_checkpoints=1)
    return {"digest": train(RECIPE, placement, name=NAME, resume=resume, observe=observe).digest}


def look(run: str) -> dict[str, Any]:
    """Return what each reading command says."""
    commands: dict[str, Callable[[], Any]] = {
        "list": lambda: [vars(run) for run in list_stored_runs(STORAGE)],
        "report": lambda: read_story(run).state,
        "verify": lambda: verify(run, run).same,
        "evaluate": lambda: load_run(run, parse_step("final")).step,
    }
    return {name: describe(act) for name, act in commands.items()}


def describe(act: Callable[[], Any]) -> Any:
    """Return what `act` returns, or the sentence that it ends with."""
    try:
        return act()
    except DistbpError as error:
        return {"exit_code": error.exit_code, "message": str(error)}
    except BaseException as error:
        return {"defect": repr(error)}


def list_files() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in Path(ROOT).rglob("*"))


def on_a_copy(act: Callable[[], Any]) -> Any:
    """Return what `act` says, with storage afterwards as it was before."""
    shutil.copytree(ROOT, f"{ROOT}-copy")
    try:
        return run_child(act)
    finally:
        shutil.rmtree(ROOT)
        shutil.move(f"{ROOT}-copy", ROOT)


def clear() -> None:
    for folder in (ROOT, HERE):
        shutil.rmtree(folder, ignore_errors=True)
        Path(folder).mkdir()
    os.chdir(HERE)


def main() -> None:
    refuses_after = 1 if KIND == "rescue" else None
    clear()
    print(json.dumps({"end": run_child(command), "files": list_files()}))
    steps = Path(ROOT, "runs", NAME, "steps.jsonl")
    num_writes = 0
    while True:
        clear()
        survived = run_child(lambda: command(refuses_after=refuses_after), num_writes)
        if survived is not None:
            print(json.dumps({"survived": survived}))
            return
        said = {
            "num_writes": num_writes,
            "left": list_files(),
            "look": run_child(lambda: look(f"{STORAGE}/{NAME}")),
            "never": on_a_copy(lambda: command("never")),
            "must": on_a_copy(lambda: command("must")),
            "rescued": [on_a_copy(partial(command, storage=path.name)) for path in Path(HERE).iterdir()],
            "again": run_child(command),
            "files": list_files(),
        }
        lines = steps.read_text().splitlines() if steps.exists() else []
        print(json.dumps({**said, "logged": [json.loads(line)["step"] for line in lines]}), flush=True)
        num_writes += 1


if __name__ == "__main__":
    KIND, FOLDER = sys.argv[1:]
    ROOT, HERE = f"{FOLDER}/storage", f"{FOLDER}/here"
    STORAGE = f"{ROOT}/runs" if KIND == "local" else "dying://runs"
    WATCHED = HERE if KIND == "rescue" else ROOT
    if KIND != "object_store":
        sys.addaudithook(watch_local_files)
    fsspec.register_implementation("dying", DyingFileSystem)
    RemoteFolder.prompt_s = 2.0  # so that training waits for each checkpoint, as it does for a local disk
    RemoteFolder.patience_s = 0.3
    main()
