"""DistbpClassifier: classes of any labels, or several labels at once; probabilities, accuracy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_y, check_consistent_length, column_or_1d

from distbp.data import PreparedData
from distbp.data.targets import TargetSpec
from distbp.sklearn.callbacks import with_callbacks
from distbp.sklearn.estimator import DistbpEstimator, in_scikit_learns_words, read_weights
from distbp.sklearn.examples import Targets
from distbp.sklearn.fitting import Fitted


class DistbpClassifier(ClassifierMixin, DistbpEstimator):
    """A network that learns classes by `distbp.train()`, with scikit-learn's interface.

    classes_: (K,), the labels, sorted; of several labels at once, y (n, L) of zeros and ones,
    their numbers. digest_: SHA-256 of the parameters; the same recipe gives the same, anywhere.
    README.md beside this file says what each parameter and attribute is.
    """

    classes_: NDArray
    _label_dtype: np.dtype | None = None  # of y (n, L); None: one class each
    _task = "classification"

    @with_callbacks
    @in_scikit_learns_words
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train one epoch on X (n, I) and y (n,) or (n, L), going on from the call before, and return the estimator.

        classes: (K,), all labels that will ever come; needed in the first call, and the same in others.
        sample_weight: (n,), what each example counts.
        """
        if not hasattr(self, "network_") and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit; name all labels that will come")
        if hasattr(self, "network_") and classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(f"classes={np.unique(classes)} is not the same as on the last call, {self.classes_}")
        return self._train_on(X, y, sample_weight, None if classes is None else np.unique(classes))

    def predict(self, X: Any) -> NDArray:
        """Return the most probable class's label of each row of X, (n,); of several labels zeros and ones, (n, L)."""
        outputs = self._outputs(X)
        if self._label_dtype is not None:
            return (outputs > 0.5).astype(self._label_dtype)
        return self.classes_[outputs.argmax(axis=1)]

    def predict_proba(self, X: Any) -> NDArray:
        """Return the probability of each class, (n, K), in the order of classes_; of several labels of each, (n, L)."""
        return self._outputs(X)

    def predict_log_proba(self, X: Any) -> NDArray:
        """Return the logarithm of each class's probability, (n, K)."""
        with np.errstate(divide="ignore"):  # a probability may round to 0
            return np.log(self.predict_proba(X))

    def _read_targets(self, x: Any, y: Any, sample_weight: Any, goes_on: bool, classes: Any) -> Targets:
        labels = _read_labels(y)
        if goes_on and (labels is None) != (self._label_dtype is None):
            raise ValueError("y has several labels for each example now or before, not both times; call fit anew")
        if labels is not None:
            return self._read_many(x, labels, sample_weight, goes_on)
        self._label_dtype = None
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

    def _read_many(self, x: Any, labels: NDArray, sample_weight: Any, goes_on: bool) -> Targets:
        """Return (n, L) zeros and ones as several targets."""
        check_consistent_length(x, labels)
        num_labels = labels.shape[1]
        if goes_on and num_labels != len(self.classes_):
            raise ValueError(f"y has {num_labels} labels; training goes on with the {len(self.classes_)} of before")
        self.classes_, self._label_dtype = np.arange(num_labels), labels.dtype
        spec = TargetSpec("regression", None, num_labels)  # each is 0 or 1; `_label` says that these are labels
        return Targets(labels.astype(np.float64), spec, read_weights(x, sample_weight))

    def _label(self, data: PreparedData) -> PreparedData:
        """Return the same data, whose schema names the classes as people do."""
        if self._label_dtype is not None:
            return replace(data, schema=replace(data.schema, labels=(("0", "1"),) * len(self.classes_)))
        is_plain = self.classes_.dtype.kind in "iub"
        labels = self.classes_.tolist() if is_plain else [_name(label) for label in self.classes_.tolist()]
        return replace(data, schema=replace(data.schema, classes=tuple(labels)))

    def _score_epochs(self, fitted: Fitted, data: PreparedData) -> list[float]:  # noqa: ARG002  # a regressor's
        if self._label_dtype is not None:
            return [-loss for loss in fitted.curve.validation_losses]
        return [float(accuracy) for accuracy in fitted.curve.validation_accuracies if accuracy is not None]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _read_labels(y: Any) -> NDArray | None:
    """Return y (n, L) of zeros and ones, None for one class each; raises ValueError for several classes of more."""
    found = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
    if found.ndim != 2:
        return None
    if found.shape[1] < 2 or type_of_target(found) == "unknown":
        return None
    if type_of_target(found) != "multilabel-indicator":
        raise ValueError(
            f"y has {found.shape[1]} targets of more than the two values 0 and 1; of several labels each is 0 or "
            "1. Fit an estimator for each target"
        )
    return found


def _name(label: object) -> str | int:
    """Return a label that is neither a number nor text as a schema can hold it: whole floats are numbers."""
    return int(label) if isinstance(label, float) and label.is_integer() else str(label)
