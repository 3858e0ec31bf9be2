"""DistbpClassifier: classes of any labels, probabilities, accuracy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y, check_consistent_length, column_or_1d

from distbp.data import PreparedData
from distbp.data.targets import TargetSpec
from distbp.sklearn.callbacks import with_callbacks
from distbp.sklearn.estimator import DistbpEstimator, in_scikit_learns_words, read_weights
from distbp.sklearn.examples import Targets
from distbp.sklearn.fitting import Fitted


class DistbpClassifier(ClassifierMixin, DistbpEstimator):
    """A network that learns classes by `distbp.train()`, with scikit-learn's interface.

    classes_: (K,), the labels, sorted. digest_: SHA-256 of the parameters; the same recipe gives the same, anywhere.
    README.md beside this file says what each parameter and attribute is.
    """

    classes_: NDArray
    _task = "classification"

    @with_callbacks
    @in_scikit_learns_words
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train one epoch on X (n, I) and y (n,), going on from the call before, and return the estimator.

        classes: (K,), all labels that will ever come; needed in the first call, and the same in others.
        sample_weight: (n,), what each example counts.
        """
        if not hasattr(self, "network_") and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit; name all labels that will come")
        if hasattr(self, "network_") and classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(f"classes={np.unique(classes)} is not the same as on the last call, {self.classes_}")
        return self._train_on(X, y, sample_weight, None if classes is None else np.unique(classes))

    def predict(self, X: Any) -> NDArray:
        """Return the most probable class's label of each row of X, (n,)."""
        best = self._outputs(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> NDArray:
        """Return the probability of each class, (n, K), in the order of classes_."""
        return self._outputs(X)

    def predict_log_proba(self, X: Any) -> NDArray:
        """Return the logarithm of each class's probability, (n, K)."""
        with np.errstate(divide="ignore"):  # a probability may round to 0
            return np.log(self.predict_proba(X))

    def _read_targets(self, x: Any, y: Any, sample_weight: Any, goes_on: bool, classes: Any) -> Targets:
        y = column_or_1d(y, warn=True)
        check_consistent_length(x, y)
        _check_y(y, y_numeric=False, estimator=self)
        check_classification_targets(y)
        found = np.unique(y)
        known = self.classes_ if goes_on else (found if classes is None else classes)
        unknown = found[~np.isin(found, known)]
        if len(unknown):
            raise ValueError(f"y has the class {unknown.tolist()[0]!r}, which is none of {known.tolist()}")
        weights = read_weights(x, sample_weight)
        if len(known) < 2 or (weights is not None and len(np.unique(y[weights > 0])) < 2 and classes is None):
            raise ValueError(f"y has one class only, {found.tolist()[0]!r}; a classifier needs at least two")
        self.classes_ = known
        spec = TargetSpec("classification", tuple(range(len(known))), len(known))
        return Targets(np.searchsorted(known, y), spec, weights)

    def _label(self, data: PreparedData) -> PreparedData:
        """Return the same data, whose schema names the classes as people do."""
        is_plain = self.classes_.dtype.kind in "iub"
        labels = self.classes_.tolist() if is_plain else [_name(label) for label in self.classes_.tolist()]
        return replace(data, schema=replace(data.schema, classes=tuple(labels)))

    def _score_epochs(self, fitted: Fitted, data: PreparedData) -> list[float]:  # noqa: ARG002  # a regressor's
        return [float(accuracy) for accuracy in fitted.curve.validation_accuracies if accuracy is not None]


def _name(label: object) -> str | int:
    """Return a label that is neither a number nor text as a schema can hold it: whole floats are numbers."""
    return int(label) if isinstance(label, float) and label.is_integer() else str(label)
