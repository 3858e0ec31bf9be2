"""All who watch a run at once: the terminal, Ray's metrics, TensorBoard, MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from distbp.cli.progress import show_progress

if TYPE_CHECKING:
    from distbp.config import Config
    from distbp.service.tracking import MlflowTracking
    from distbp.training import Observer, Progress


class _Audience:
    """Passes what it sees on to several observers, in order."""

    def __init__(self, observers: Sequence[Observer]):
        self._observers = observers

    def __call__(self, progress: Progress) -> None:
        for observe in self._observers:
            observe(progress)

    def finish(self, progress: Progress) -> None:
        from distbp.training import Finisher

        for observer in self._observers:
            if isinstance(observer, Finisher):
                observer.finish(progress)


@contextmanager
def track_run(uri: str | None, config: Config) -> Iterator[MlflowTracking | None]:
    """Yield what logs a run to the MLflow server at `uri`, None for none."""
    if uri is None:
        yield None
        return
    from distbp.service.tracking import MlflowTracking

    with MlflowTracking(uri, config) as tracking:
        yield tracking


@contextmanager
def watch_run(
    console: Console, is_on_ray: bool, tensorboard: str | None, tracking: MlflowTracking | None = None
) -> Iterator[Observer]:
    """Yield an observer for train(). tensorboard: the folder for event files, None for none."""
    observers: list[Observer] = [] if tracking is None else [tracking]
    if tensorboard is not None:
        from distbp.service.tensorboard import TensorBoardFiles

        observers.append(TensorBoardFiles(tensorboard))
    if is_on_ray:
        from distbp.service.metrics import RunMetrics

        observers.append(RunMetrics())
    with show_progress(console) as show:
        yield _Audience([show, *observers]) if observers else show
