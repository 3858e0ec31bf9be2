"""scikit-learn's callbacks (from 1.9 on): each epoch of a fit is a task that they see begin and end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distbp.protocol.messages import TrainState
from distbp.training import Progress

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9 has none

    class CallbackSupportMixin:  # type: ignore[no-redef]  # it stands for the one that is not there
        """What scikit-learn before 1.9 knows of callbacks: nothing."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method as it is."""
        return method


class EpochTasks:
    """An observer of train() that tells an estimator's callbacks of each epoch, and ends the run if one asks for it.

    describe: gives the attributes with which a copy of the estimator predicts from a state.
    """

    def __init__(
        self, estimator: Any, context: Any, x: Any, y: Any, describe: Callable[[TrainState], dict[str, Any]]
    ) -> None:
        self._estimator = estimator
        self._context = context
        self._data = {"X": x, "y": y}
        self._describe = describe
        self._num_ended = 0
        self._task: Any = None
        self._begin()

    def __call__(self, progress: Progress) -> None:
        """Do nothing after a step."""

    def end_epoch(self, progress: Progress, take_state: Callable[[], TrainState]) -> bool:
        """Tell of the end of an epoch, once, though a lost group may reach it again; return whether to end here."""
        if progress.position.epochs_evaluated <= self._num_ended or self._task is None:
            return False
        self._num_ended = progress.position.epochs_evaluated
        is_to_end = self._end(lambda: self._describe(take_state()))
        if not is_to_end and self._num_ended < progress.num_epochs:
            self._begin()
        return is_to_end

    def close(self) -> None:
        """End the task of an epoch that did not come, after early stopping or an error."""
        if self._task is not None:
            self._end(None)

    def _begin(self) -> None:
        self._task = self._context.subcontext(task_name="epoch")
        self._task.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def _end(self, attributes: Callable[[], dict[str, Any]] | None) -> bool:
        task, self._task = self._task, None
        data = {} if attributes is None else self._data
        return bool(task.call_on_fit_task_end(estimator=self._estimator, **data, reconstruction_attributes=attributes))


__all__ = ["CallbackSupportMixin", "EpochTasks", "with_callbacks"]
