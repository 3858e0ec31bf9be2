"""A run's curves as TensorBoard event files, one folder for each run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distbp.errors import StorageError
from distbp.installation import need
from distbp.training import Progress

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

INTERVAL_S = 0.5
"""A point takes longer to write than a small step to compute, and nobody sees more of them."""


class TensorBoardFiles:
    """An observer that writes to `<folder>/<run>`: means since the last point, and each epoch's evaluation.

    A run that is resumed goes on in the same folder; what it had written of steps that it does again is hidden.
    """

    def __init__(self, folder: str | Path):
        """Raises ConfigError without the library, StorageError if the folder cannot be made."""
        need("writing TensorBoard files", "tensorboardX")  # before anything is trained
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make '{folder}' for TensorBoard: {error.strerror}; choose another") from None
        self._writer: SummaryWriter | None = None
        self._sums: dict[str, float] = {}
        self._num_steps = self._num_examples = 0
        self._began = self._due = 0.0
        self._epochs_seen = -1

    def __call__(self, progress: Progress) -> None:
        """Take in a step."""
        if self._writer is None:
            self._open(progress)
        self._gather(progress)
        if time.monotonic() >= self._due:
            self._write_means(progress)
        if progress.position.epochs_evaluated != self._epochs_seen:
            self._write_evaluation(progress, progress.position.step - 1)

    def finish(self, progress: Progress) -> None:
        """Write the rest and close the files."""
        if self._writer is None:
            return
        if self._num_steps:
            self._write_means(progress)
        self._write_evaluation(progress, progress.position.step)
        self._writer.close()

    def _open(self, first: Progress) -> None:
        from tensorboardX import SummaryWriter

        step = first.position.step
        self._writer = SummaryWriter(
            str(self._folder / first.run),
            purge_step=step if step > 1 else None,
            filename_suffix=f".{step}",  # its names hold only the second: a quick resume would overwrite
        )
        self._epochs_seen = first.position.epochs_evaluated
        self._began = time.monotonic()
        self._due = self._began + INTERVAL_S

    def _gather(self, progress: Progress) -> None:
        report = progress.report
        values = {
            "loss/training": report.loss,
            "step_seconds/compute": report.compute_s,
            "step_seconds/transfer": report.wait_s,
            "step_seconds/commit": report.commit_s,
        }
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._num_steps += 1
        self._num_examples += report.num_examples

    def _write_means(self, progress: Progress) -> None:
        step, now = progress.position.step, time.monotonic()
        for name, total in self._sums.items():
            self._add(name, total / self._num_steps, step)
        self._add("speed/examples_per_second", self._num_examples / max(now - self._began, 1e-9), step)
        self._add("run/workers", progress.num_workers, step)
        self._add("run/goodput", progress.position.goodput, step)
        self._sums.clear()
        self._num_steps = self._num_examples = 0
        self._began, self._due = now, now + INTERVAL_S

    def _write_evaluation(self, progress: Progress, step: int) -> None:
        position = progress.position
        self._epochs_seen = position.epochs_evaluated
        self._add("loss/validation", position.validation_loss, step)
        self._add("accuracy/validation", position.validation_accuracy, step)

    def _add(self, name: str, value: Any, step: int) -> None:
        if value is not None and self._writer is not None:
            self._writer.add_scalar(name, value, step)
