"""What users do with an estimator: keep it, go on with it, search with it, watch it, stop it."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import fsspec
import joblib
import numpy as np
import pytest
from examples import blobs, mixed, plane
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from distbp.data.split import split_rows
from distbp.sklearn import DistbpClassifier, DistbpRegressor

pytestmark = pytest.mark.slow

SHORT = {"max_iter": 4}


@pytest.mark.parametrize(("estimator", "data"), [(DistbpClassifier, blobs), (DistbpRegressor, plane)])
def test_a_fitted_estimator_needs_nothing_but_itself(tmp_path, estimator, data):
    x, y = data()
    model = estimator().fit(x, y)
    expected = model.predict(x)
    assert (pickle.loads(pickle.dumps(model)).predict(x) == expected).all()
    joblib.dump(model, tmp_path / "model.joblib")
    np.savez(tmp_path / "x.npz", x=x, expected=expected)
    program = (
        "import joblib, numpy\ndata = numpy.load('x.npz')\n"
        "assert (joblib.load('model.joblib').predict(data['x']) == data['expected']).all()\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)


def test_a_fit_leaves_no_file_and_no_memory(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    x, y = blobs()
    DistbpClassifier(early_stopping=True).fit(x, y)
    with pytest.raises(ValueError, match="max_iter=-1"):
        DistbpClassifier(max_iter=-1).fit(x, y)
    assert [path.name for path in tmp_path.rglob("*")] == ["temporary"]
    assert not [name for name in fsspec.filesystem("memory").store if "distbp" in name]


def test_predictions_have_the_accuracy_of_scikit_learns_network():
    x, y = blobs(300)
    models = (DistbpClassifier(), MLPClassifier(max_iter=1000, random_state=0))
    ours, theirs = (model.fit(x[:200], y[:200]).score(x[200:], y[200:]) for model in models)
    assert ours > theirs - 0.03


@pytest.mark.parametrize("num_targets", [1, 2])
def test_numbers_are_predicted_in_the_units_they_came_in(num_targets):
    x, y = plane(num_targets=num_targets)
    predicted = DistbpRegressor().fit(x, y).predict(x)
    assert predicted.shape == y.shape
    assert r2_score(y, predicted) > 0.98


def test_labels_come_back_as_they_went_in():
    x, y = blobs()
    codes = np.unique(y, return_inverse=True)[1]
    for labels in (y, y.astype(object), codes, codes.astype(float), codes.astype(np.uint8) + 7, codes > 0):
        model = DistbpClassifier(**SHORT).fit(x, labels)
        assert model.classes_.dtype == np.unique(labels).dtype
        assert (model.classes_ == np.unique(labels)).all()
        assert model.predict(x).dtype == labels.dtype
        assert model.predict_proba(x).shape == (len(x), len(model.classes_))


def test_early_stopping_tells_of_held_out_scores_and_ends_with_the_best():
    x, y = blobs()
    model = DistbpClassifier(early_stopping=True, n_iter_no_change=2, max_iter=200).fit(x, y)
    assert len(model.validation_scores_) == len(model.loss_curve_) == model.n_iter_ < 200
    assert all(0 <= score <= 1 for score in model.validation_scores_)
    x, y = plane()
    regressor = DistbpRegressor(early_stopping=True, validation_fraction=0.3, n_iter_no_change=2, max_iter=200)
    regressor.fit(x, y)
    held_out = split_rows(len(x), 0.3, seed=0)[1]
    best = r2_score(y[held_out], regressor.predict(x[held_out]))
    assert best == pytest.approx(max(regressor.validation_scores_), rel=1e-3)
    assert DistbpRegressor(**SHORT).fit(x, y).validation_scores_ is None


def test_the_validation_score_of_a_regressor_is_scikit_learns():
    x, y = plane()
    model = DistbpRegressor(early_stopping=True, validation_fraction=0.3, max_iter=1).fit(x, y)
    held_out = split_rows(len(x), 0.3, seed=0)[1]
    assert model.validation_scores_ == pytest.approx([r2_score(y[held_out], model.predict(x[held_out]))], rel=1e-4)


def test_partial_fit_goes_on_and_one_part_is_one_epoch_of_fit():
    x, y = blobs()
    model = DistbpClassifier().partial_fit(x, y, classes=["ant", "bee", "cow"])
    assert model.digest_ == DistbpClassifier(max_iter=1).fit(x, y).digest_
    for _ in range(30):
        model.partial_fit(x, y)
    assert model.n_iter_ == len(model.loss_curve_) == 31
    assert model.loss_curve_[-1] < model.loss_curve_[0] / 3
    assert model.score(x, y) > 0.95


def test_partial_fit_learns_classes_that_come_later_and_keeps_the_first_scaling():
    x, y = blobs()
    model = DistbpClassifier().partial_fit(x[y != "cow"], y[y != "cow"], classes=["ant", "bee", "cow"])
    for _ in range(20):
        model.partial_fit(x, y)
    assert model.score(x, y) > 0.95
    with pytest.raises(ValueError, match="y has the class 'dog'"):
        model.partial_fit(x, np.where(y == "cow", "dog", y))
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        DistbpClassifier().partial_fit(x, y)
    with pytest.raises(ValueError, match="not the same as on the last call"):
        model.partial_fit(x, y, classes=["ant", "bee"])
    with pytest.raises(ValueError, match="early_stopping"):
        DistbpClassifier(early_stopping=True).partial_fit(x, y, classes=["ant", "bee", "cow"])


def test_partial_fit_of_a_regressor_keeps_the_units_of_the_first_part():
    x, y = plane(400)
    model = DistbpRegressor()
    for _ in range(10):
        for part in range(0, 400, 100):
            model.partial_fit(x[part : part + 100], y[part : part + 100])
    assert model.score(x, y) > 0.98


def test_the_momentum_of_the_part_before_is_kept():
    x, y = blobs()
    parts = [DistbpClassifier(random_state=0) for _ in range(2)]
    for model in parts:
        model.partial_fit(x, y, classes=np.unique(y))
    warm = DistbpClassifier(warm_start=True, max_iter=1, random_state=0).fit(x, y).set_params(random_state=1).fit(x, y)
    first, second = (model.partial_fit(x, y).digest_ for model in parts)
    assert first == second != warm.digest_


def test_warm_start_goes_on_from_the_fit_before():
    x, y = blobs()
    model = DistbpClassifier(warm_start=True, max_iter=3, learning_rate="constant").fit(x, y)
    before = model.loss_curve_[-1]
    model.fit(x, y)
    assert model.loss_curve_[0] < before
    cold = DistbpClassifier(max_iter=3).fit(x, y)
    assert cold.digest_ == cold.fit(x, y).digest_
    with pytest.raises(ValueError, match="the network is now another"):
        model.set_params(hidden_layer_sizes=(5,)).fit(x, y)


def test_random_state_none_draws_anew_and_a_random_state_is_drawn_from():
    x, y = blobs()
    assert (
        DistbpClassifier(random_state=None).fit(x, y).digest_ != DistbpClassifier(random_state=None).fit(x, y).digest_
    )
    drawn = [DistbpClassifier(random_state=np.random.RandomState(5)).fit(x, y).digest_ for _ in range(2)]
    assert drawn[0] == drawn[1]


@pytest.mark.slow
def test_a_search_over_processes_gives_the_bytes_of_one_in_this_process():
    x, y = blobs()
    grid = {"hidden_layer_sizes": [(4,), (16,)], "learning_rate_init": np.array([0.01, 0.1])}
    # Ray by its backend: inside joblib's processes no private clusters start, and the bytes are the same.
    apart = GridSearchCV(DistbpClassifier(backend="ray", **SHORT), grid, n_jobs=2, cv=3, refit=False).fit(x, y)
    here = GridSearchCV(DistbpClassifier(workers=1, **SHORT), grid, cv=3).fit(x, y)
    assert (apart.cv_results_["mean_test_score"] == here.cv_results_["mean_test_score"]).all()
    assert here.best_estimator_.digest_ == clone(here.best_estimator_).fit(x, y).digest_


def test_fits_in_threads_at_once_do_not_disturb_each_other():
    x, y = blobs()
    alone = DistbpClassifier(**SHORT).fit(x, y).digest_
    with joblib.parallel_backend("threading"):
        found = joblib.Parallel(4)(joblib.delayed(DistbpClassifier(**SHORT).fit)(x, y) for _ in range(8))
    assert {model.digest_ for model in found} == {alone}


def test_it_works_in_a_pipeline_behind_a_column_transformer():
    pandas = pytest.importorskip("pandas")
    x, y = blobs()
    table = pandas.DataFrame(x, columns=list("abcd")).assign(kind=np.where(y == "ant", "small", "large"))
    columns = ColumnTransformer([("text", OneHotEncoder(sparse_output=False), ["kind"])], remainder=StandardScaler())
    model = make_pipeline(columns.set_output(transform="pandas"), DistbpClassifier()).fit(table, y)
    assert list(model[-1].feature_names_in_) == list(columns.get_feature_names_out())
    assert model.score(table, y) > 0.95
    assert (cross_val_predict(model, table, y, cv=3) == y).mean() > 0.9


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_tables_of_numbers_go_in_as_they_are(library):
    table_of = {"pandas": "DataFrame", "polars": "DataFrame", "pyarrow": "table"}[library]
    x, y = blobs()
    make = getattr(pytest.importorskip(library), table_of)
    table = make({name: x[:, number] for number, name in enumerate("abcd")})
    model = DistbpClassifier(**SHORT).fit(table, y)
    assert list(model.feature_names_in_) == list("abcd")
    assert model.n_features_in_ == 4
    assert (model.predict(table) == model.predict(make({name: x[:, i] for i, name in enumerate("abcd")}))).all()
    with pytest.raises(ValueError, match="feature names"):
        model.predict(make({name: x[:, number] for number, name in enumerate("abce")}))


def test_tables_of_mixed_columns_go_in_as_they_are_and_other_columns_are_told():
    table, y = mixed()
    frame = table.to_pandas()
    model = DistbpClassifier().fit(frame.set_index(np.arange(len(frame))[::-1]), y)
    assert list(model.feature_names_in_) == table.column_names
    assert model.score(frame, y) > 0.95
    turned = frame[frame.columns[::-1]].assign(more=1)
    assert (model.predict(turned) == model.predict(frame)).all()
    assert (pickle.loads(pickle.dumps(model)).predict(frame) == model.predict(frame)).all()
    unseen = frame.assign(plan="none of them", age=None)
    assert model.predict_proba(unseen).shape == (len(frame), 2)
    with pytest.raises(ValueError, match="plan"):
        model.predict(frame.drop(columns="plan"))


def test_partial_fit_and_warm_start_keep_the_columns_of_the_first_table():
    table, y = mixed()
    parts = DistbpClassifier().partial_fit(table.slice(0, 100), y[:100], classes=["leaves", "stays"])
    parts.partial_fit(table.slice(100).to_pandas(), y[100:])
    warm = DistbpClassifier(warm_start=True, max_iter=10).fit(table, y)
    first = warm.loss_curve_[0]
    assert warm.fit(table, y).loss_curve_[0] < first
    assert DistbpRegressor(max_iter=30).fit(table, np.arange(200.0)).predict(table).shape == (200,)


def test_a_weight_of_zero_is_no_example():
    x, y = blobs()
    wrong = np.where(np.arange(150) < 50, "cow", y)
    weights = (np.arange(150) >= 50) * 1.0
    weighted, plain = DistbpClassifier().fit(x, wrong, sample_weight=weights), DistbpClassifier().fit(x, wrong)
    assert weighted.score(x, y) > plain.score(x, y)
    assert weighted.score(x, y) > 0.9
    with pytest.raises(ValueError, match="egative"):
        DistbpClassifier().fit(x, y, sample_weight=-weights)


def test_weights_reach_the_estimator_through_metadata_routing():
    x, y = blobs()
    weights = np.linspace(0, 1, 150)
    with config_context(enable_metadata_routing=True):
        model = DistbpClassifier(**SHORT).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        pipeline.fit(x, y, sample_weight=weights)
    scaled = StandardScaler().fit_transform(x)
    assert pipeline[-1].digest_ == DistbpClassifier(**SHORT).fit(scaled, y, sample_weight=weights).digest_
    assert pipeline[-1].digest_ != DistbpClassifier(**SHORT).fit(scaled, y).digest_


def test_sparse_matrices_are_refused_in_a_sentence():
    sparse = pytest.importorskip("scipy.sparse")
    x, y = blobs()
    with pytest.raises(TypeError, match="dense data is required"):
        DistbpClassifier().fit(sparse.csr_matrix(x), y)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"max_iter": 0}, "max_iter=0 must be greater than 0"),
        ({"activation": "step"}, "activation='step' is not one of"),
        ({"batch_size": "big"}, r"batch_size is text \('big'\)"),
        ({"hidden_layer_sizes": (8, 0)}, r"hidden_layer_sizes.1=0 must be greater than 0"),
        ({"workers": 0}, "workers=0 must be greater than 0"),
        ({"recipe": {"epochs": 3}}, "recipe sets epochs, and that is what max_iter says; leave it out"),
        ({"recipe": {"data": {"source": "digits"}}}, r"recipe sets data.source, and that is what fit\(X, y\) says"),
        ({"recipe": {"modle": {}}}, "unknown key 'modle' in recipe; did you mean 'model'"),
        ({"recipe": "float64"}, "recipe is a str; expected a mapping"),
        ({"random_state": -1}, "random_state=-1 must be at least 0"),
        ({"early_stopping": True, "validation_fraction": 0.0}, "early_stopping needs validation data"),
        ({"placement": {"worker": 2}}, "unknown key 'worker' in placement; did you mean 'workers'"),
    ],
)
def test_a_wrong_parameter_is_one_sentence(parameters, sentence):
    x, y = blobs()
    with pytest.raises(ValueError, match=sentence):
        DistbpClassifier(**parameters).fit(x, y)


def test_an_address_alone_means_ray():
    x, y = blobs()
    with pytest.raises(Exception, match=r"127\.0\.0\.1:1"):
        DistbpClassifier(address="127.0.0.1:1").fit(x, y)


def test_ctrl_c_keeps_what_had_been_trained(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(Path(__file__).with_name("interrupted.py").read_text())
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "interrupted, fitted, accurate\n", done.stderr
