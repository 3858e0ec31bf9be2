"""A run's curves as TensorBoard event files, one folder for each run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from distbp.errors import StorageError
from distbp.installation import need
from distbp.service.points import Point, Points
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
        self._points = Points(INTERVAL_S)

    def __call__(self, progress: Progress) -> None:
        """Take in a step."""
        if self._writer is None:
            self._open(progress)
        self._write(self._points.take(progress))

    def finish(self, progress: Progress) -> None:
        """Write the rest and close the files."""
        if self._writer is None:
            return
        self._write(self._points.take_rest(progress))
        self.close()

    def close(self) -> None:
        """Close the files of a run that did not get to its end; fine if none were opened."""
        if self._writer is not None:
            self._writer.close()

    def _open(self, first: Progress) -> None:
        from tensorboardX import SummaryWriter

        step = first.position.step
        self._writer = SummaryWriter(
            str(self._folder / first.run),
            purge_step=step if step > 1 else None,
            filename_suffix=f".{step}",  # its names hold only the second: a quick resume would overwrite
        )

    def _write(self, points: Iterable[Point]) -> None:
        assert self._writer is not None
        for point in points:
            self._writer.add_scalar(point.name, point.value, point.step)
