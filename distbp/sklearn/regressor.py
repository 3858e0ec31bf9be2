"""DistbpRegressor: one or several numbers for each example, in the user's own units."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d

from distbp.data import PreparedData
from distbp.data.targets import TargetSpec
from distbp.protocol.supply import in_memory
from distbp.sklearn.callbacks import with_callbacks
from distbp.sklearn.estimator import DistbpEstimator, in_scikit_learns_words, read_weights
from distbp.sklearn.examples import Targets
from distbp.sklearn.fitting import Fitted


class DistbpRegressor(RegressorMixin, DistbpEstimator):
    """A network that learns numbers by `distbp.train()`, with scikit-learn's interface.

    Targets are learned with mean 0 and standard deviation 1, and predicted in the units they came in.
    digest_: SHA-256 of the parameters; the same recipe gives the same, anywhere.
    README.md beside this file says what each parameter and attribute is.
    """

    _task = "regression"

    @with_callbacks
    @in_scikit_learns_words
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one epoch on X (n, I) and y (n,) or (n, O), going on from the call before, and return the estimator.

        sample_weight: (n,), what each example counts.
        """
        return self._train_on(X, y, sample_weight, None)

    def predict(self, X: Any) -> NDArray:
        """Return the value of each target for each row of X, (n,) or (n, O)."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._is_one_target else outputs

    def _read_targets(self, x: Any, y: Any, sample_weight: Any, goes_on: bool, classes: Any) -> Targets:  # noqa: ARG002  # a classifier's
        y = check_array(y, ensure_2d=False, dtype="numeric", input_name="y", estimator=self)
        y = column_or_1d(y, warn=True) if y.ndim == 1 or y.shape[1] == 1 else y
        check_consistent_length(x, y)
        if not goes_on:
            self._is_one_target = y.ndim == 1
        values = y.astype(np.float64).reshape(len(y), -1)
        if goes_on and values.shape[1] != self.network_.schema.num_outputs:
            there = self.network_.schema.num_outputs
            raise ValueError(f"y has {values.shape[1]} targets; training goes on with the {there} of before")
        return Targets(values, TargetSpec("regression", None, values.shape[1]), read_weights(x, sample_weight))

    def _label(self, data: PreparedData) -> PreparedData:
        return data

    def _score_epochs(self, fitted: Fitted, data: PreparedData) -> list[float]:
        if data.validation is None or self.recipe_.model.loss != "squared_error":
            return [-loss for loss in fitted.curve.validation_losses]
        held_out = in_memory(data.validation)
        y, weights = held_out.y[held_out.rows], held_out.take_weights(slice(None))
        mean = np.average(y, axis=0, weights=weights)
        variance = float(np.average(np.square(y - mean).sum(axis=1), weights=weights))
        return [1.0 - loss / variance if variance > 0 else 0.0 for loss in fitted.curve.validation_losses]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
