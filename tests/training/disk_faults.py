"""A program to run in a mount namespace of its own: trains on a small disk that fills up or turns read-only.

Prints, as JSON, how the training ended and how the same training ended when it was started again on a good disk.
Arguments: the fault (full or read-only), whether it passes (passes or stays), the recipe as JSON, an empty folder.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from distbp import Placement, Recipe, train
from distbp.errors import DistbpError
from distbp.run.storage.local_folder import LocalFolder

FROM_STEP, TO_STEP = 4, 20
DISK_SIZE = "512k"


class Disk:
    """A tmpfs at `path`, and what can be wrong with it."""

    def __init__(self, path: Path):
        self.path = path
        path.mkdir()
        mount("-t", "tmpfs", "-o", f"size={DISK_SIZE}", "none", path)

    def break_full(self) -> None:
        with suppress(OSError), (self.path / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def mend_full(self) -> None:
        (self.path / "filler").unlink()

    def break_read_only(self) -> None:
        self._remount("ro")

    def mend_read_only(self) -> None:
        self._remount("rw")

    def _remount(self, mode: str) -> None:
        """Remount; that is refused while a file happens to be written."""
        for _ in range(200):
            with suppress(subprocess.CalledProcessError):
                mount("-o", f"remount,{mode}", self.path)
                return
            time.sleep(0.005)
        raise TimeoutError("the disk stays busy")


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


def run(recipe: Recipe, storage: str, observe=None) -> dict[str, object]:
    try:
        result = train(recipe, Placement(storage=storage, checkpoint_every_steps=4), name="run", observe=observe)
    except DistbpError as error:
        return {"exit_code": error.exit_code, "message": str(error)}
    return {"exit_code": 0, "digest": result.digest}


def main(fault: str, passes: str, recipe_json: str, folder: str) -> None:
    os.chdir(folder)
    LocalFolder.patience_s = 1.0
    logging.basicConfig(format="%(levelname)s %(message)s")
    recipe = Recipe.model_validate_json(recipe_json)
    disk = Disk(Path(folder) / "disk")
    break_it, mend = getattr(disk, f"break_{fault}"), getattr(disk, f"mend_{fault}")
    acts = {FROM_STEP: break_it} | ({TO_STEP: mend} if passes == "passes" else {})

    def observe(progress) -> None:
        acts.get(progress.position.step, lambda: None)()

    first = run(recipe, f"{disk.path}/runs", observe)
    if passes == "stays":
        mend()
    seen: list[int] = []
    second = run(recipe, f"{disk.path}/runs", lambda progress: seen.append(progress.position.step))
    rescued = run(recipe, "distbp-rescue-run") if Path("distbp-rescue-run").exists() else None
    print(json.dumps({"first": first, "second": second, "rescued": rescued, "resumed_at": seen[:1]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
