"""Several labels at once, as scikit-learn's MLPClassifier takes them."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.datasets import make_multilabel_classification
from sklearn.metrics import accuracy_score, log_loss
from sklearn.neural_network import MLPClassifier

from distbp.sklearn import DistbpClassifier


@pytest.fixture(scope="module")
def examples():
    return make_multilabel_classification(n_samples=400, n_features=12, n_classes=4, random_state=0)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # scikit-learn's network says that its epochs were too few
def test_labels_are_learned_as_well_as_by_scikit_learns_network(examples):
    x, y = examples
    ours = DistbpClassifier(max_iter=40).fit(x[:300], y[:300])
    theirs = MLPClassifier(random_state=0).fit(x[:300], y[:300])
    likely = ours.predict_proba(x[300:])
    assert likely.shape == (100, 4)
    assert ((likely > 0.5) == ours.predict(x[300:])).all()
    assert ours.predict(x).dtype == y.dtype
    assert ours.classes_.tolist() == theirs.classes_.tolist()
    assert ours.score(x[300:], y[300:]) == accuracy_score(y[300:], ours.predict(x[300:]))
    assert ours.score(x[300:], y[300:]) > theirs.score(x[300:], y[300:]) - 0.1


def test_loss_is_the_sum_of_the_labels_log_losses(examples):
    x, y = examples
    model = DistbpClassifier(max_iter=3, early_stopping=True, validation_fraction=0.25).fit(x, y)
    assert model.recipe_.model.loss == "binary_cross_entropy"
    likely = model.predict_proba(x)
    assert 0 < sum(log_loss(y[:, k], likely[:, k]) for k in range(4)) < 4
    assert len(model.validation_scores_) == 3


def test_a_label_does_not_depend_on_workers_or_on_how_y_is_written(examples):
    x, y = examples
    forms = [y, y.tolist(), csr_matrix(y), pd.DataFrame(y), y.astype(float)]
    digests = {DistbpClassifier(max_iter=2, workers=1 + n % 3).fit(x, form).digest_ for n, form in enumerate(forms)}
    assert len(digests) == 1


def test_training_goes_on_and_the_estimator_stands_alone(examples):
    x, y = examples
    model = DistbpClassifier(random_state=0)
    for _ in range(3):
        model.partial_fit(x, y, classes=[0, 1, 2, 3])
    assert model.n_iter_ == 3
    copy = pickle.loads(pickle.dumps(model))
    assert (copy.predict(x) == model.predict(x)).all()
    with pytest.raises(ValueError, match="3 labels; training goes on with the 4"):
        model.partial_fit(x, y[:, :3])
    with pytest.raises(ValueError, match="several labels"):
        model.partial_fit(x, y[:, 0])


def test_tables_with_text_have_several_labels(examples):
    x, y = examples
    table = pd.DataFrame(x[:, :3], columns=["a", "b", "c"]).assign(kind=np.where(y[:, 0], "yes", "no"))
    model = DistbpClassifier(max_iter=60).fit(table, y)
    assert model.predict(table)[:, 0].tolist() == y[:, 0].tolist()


def test_several_targets_of_many_classes_are_refused(examples):
    x, y = examples
    with pytest.raises(ValueError, match="more than the two values 0 and 1"):
        DistbpClassifier().fit(x, y + np.arange(400)[:, None] % 3)
