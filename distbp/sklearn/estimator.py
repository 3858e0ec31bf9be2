"""What classifier and regressor share: parameters, fit, partial_fit, and what a fit leaves in the estimator."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from distbp.config import Placement, Recipe
from distbp.config.recipe import Measure
from distbp.data import PreparedData, Schema
from distbp.errors import ConfigError, DataError
from distbp.prediction.network import Network
from distbp.protocol.messages import TrainState
from distbp.sklearn.callbacks import CallbackSupportMixin, EpochTasks, with_callbacks
from distbp.sklearn.examples import Targets, prepare_examples, read_features, read_inputs
from distbp.sklearn.fitting import Fitted, fit_examples
from distbp.sklearn.settings import DEFAULTS, keeps_run, make_placement, make_recipe, named_columns
from distbp.training import Start
from distbp.training.plan import model_spec, settle_with
from distbp.training.rounds import moment_names

NUM_SEEDS = 2**63


def in_scikit_learns_words(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method raising ValueError, as scikit-learn's users expect, for settings and data that are wrong."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except (ConfigError, DataError) as error:
            raise ValueError(str(error)) from error

    return call


def read_weights(x: Any, sample_weight: Any) -> NDArray[np.float64] | None:
    """Return what each example counts, (n,); raises ValueError for less than 0, NaN, another number, or all 0."""
    if sample_weight is None:
        return None
    weights: NDArray[np.float64] = _check_sample_weight(
        sample_weight, np.empty((len(x), 1)), dtype=np.float64, ensure_non_negative=True
    )
    if not weights.any():
        raise ValueError("sample_weight is zero for every example; there is nothing to learn")
    return weights


class DistbpEstimator(CallbackSupportMixin, BaseEstimator):
    """Base of both estimators. README.md beside this file says what each parameter and attribute is."""

    network_: Network
    recipe_: Recipe
    run_: str | None
    digest_: str
    loss_: float
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    n_iter_: int
    _start: Start
    _first_seed: int
    _num_parts: int
    _task: Literal["classification", "regression"]

    def __init__(
        self,
        *,
        hidden_layer_sizes: int | tuple[int, ...] = DEFAULTS.model.hidden,
        activation: Literal["identity", "logistic", "sigmoid", "tanh", "relu", "gelu"] = DEFAULTS.model.activation,
        solver: Literal["sgd", "adamw"] = DEFAULTS.optimizer.kind,
        alpha: float | None = None,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: Literal["auto", "constant", "step", "cosine"] = DEFAULTS.schedule.kind,
        learning_rate_init: float = DEFAULTS.optimizer.learning_rate,
        momentum: float = DEFAULTS.optimizer.momentum,
        nesterovs_momentum: bool = DEFAULTS.optimizer.nesterov,
        max_iter: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        monitor: Measure = DEFAULTS.early_stopping.monitor,
        random_state: int | np.random.RandomState | None = DEFAULTS.seed,
        warm_start: bool = False,
        recipe: Mapping[str, Any] | None = None,
        workers: int | tuple[int, int] | None = None,
        backend: Literal["local", "ray"] | None = None,
        address: str | None = None,
        placement: Placement | Mapping[str, Any] | None = None,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.monitor = monitor
        self.random_state = random_state
        self.warm_start = warm_start
        self.recipe = recipe
        self.workers = workers
        self.backend = backend
        self.address = address
        self.placement = placement

    @with_callbacks
    @in_scikit_learns_words
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X (n, I) and y (n,), or y (n, O) for a regressor, and return the estimator.

        sample_weight: (n,), what each example counts; None: all the same. With warm_start, training goes on from the
        parameters of the fit before, with its columns, scaling and classes.

        Raises ValueError for what cannot be trained on or with, DivergedError where the loss becomes infinite. Ctrl-C
        raises KeyboardInterrupt, and the estimator keeps what had been trained.
        """
        goes_on = self.warm_start and hasattr(self, "network_")
        start = Start(self._start.parameters) if goes_on else None
        return self._train(X, y, sample_weight, None, start, self._draw_seed(), self._parameters())

    def _train_on(self, X: Any, y: Any, sample_weight: Any, classes: Any) -> Self:
        """Train one epoch, from where the call before ended, with the optimizer's moments of then."""
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True; call fit, or set it to False")
        goes_on = hasattr(self, "network_")
        seed = (self._first_seed + self._num_parts) % NUM_SEEDS if goes_on else self._draw_seed()
        first, num_parts = (self._first_seed, self._num_parts) if goes_on else (seed, 0)
        before = list(getattr(self, "loss_curve_", []))
        parameters = {**self._parameters(), "max_iter": 1}
        self._train(X, y, sample_weight, classes, self._start if goes_on else None, seed, parameters)
        self._first_seed, self._num_parts = first, num_parts + 1
        self.loss_curve_ = before + self.loss_curve_
        self.n_iter_ = len(self.loss_curve_)
        return self

    def _need_targets(self, y: Any) -> None:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")

    def _parameters(self) -> dict[str, Any]:
        return self.get_params(deep=False)

    def _draw_seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _train(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        classes: Any,
        start: Start | None,
        seed: int,
        parameters: dict[str, Any],
    ) -> Self:
        """Train on what a user gave. classes: (K,) known before, else None. start: what training goes on from."""
        known = None if start is None else self.network_.schema
        x = read_inputs(self, X, start is None, known, named_columns(parameters))
        self._need_targets(y)
        targets = self._read_targets(x, y, sample_weight, start is not None, classes)
        recipe = make_recipe(parameters, seed, len(x), self._task, is_table=not isinstance(x, np.ndarray))
        data = self._label(prepare_examples(self, x, targets, recipe.data, seed, known))
        recipe, data = settle_with(recipe, data)
        start = None if start is None else self._check_start(start, recipe, data)
        fitted = self._fit_watched(X, y, recipe, data, start, parameters)
        self._keep(fitted, recipe, data)
        self._first_seed, self._num_parts = seed, 1
        if not fitted.is_whole:
            raise KeyboardInterrupt("training was interrupted; the estimator keeps what had been trained")
        return self

    def _check_start(self, start: Start, recipe: Recipe, data: PreparedData) -> Start:
        """Return what to go on from, without moments that another optimizer left."""
        if model_spec(recipe, data.schema).build().layout != self.network_.model.layout:
            raise ValueError(
                f"the network is now another than the one fitted before ({self.recipe_.model.hidden} then, "
                f"{recipe.model.hidden} now), so training cannot go on from it; set warm_start=False and call fit"
            )
        parameters = start.parameters.astype(recipe.dtype)
        is_same = moment_names(self.recipe_) == moment_names(recipe)
        return Start(parameters, tuple(moment.astype(recipe.dtype) for moment in start.moments) if is_same else ())

    def _fit_watched(
        self,
        X: Any,
        y: Any,
        recipe: Recipe,
        data: PreparedData,
        start: Start | None,
        parameters: dict[str, Any],
    ) -> Fitted:
        placement, keep = make_placement(parameters), keeps_run(parameters)
        if not getattr(self, "_skl_callbacks", None):
            return fit_examples(recipe, placement, data, start, None, keep)
        context = self._init_callback_context(max_subtasks=recipe.epochs)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        spec = model_spec(recipe, data.schema)

        def describe(state: TrainState) -> dict[str, Any]:
            return {"network_": Network(data.schema, spec, state.parameters)}

        tasks = EpochTasks(self, context, X, y, describe)
        try:
            fitted = fit_examples(recipe, placement, data, start, tasks, keep)
        finally:
            tasks.close()
        found = {"network_": fitted.network}
        context.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes=found)
        return fitted

    def _keep(self, fitted: Fitted, recipe: Recipe, data: PreparedData) -> None:
        """Keep all of a fit that outlives it."""
        self.network_ = fitted.network
        self._start = fitted.start
        self.recipe_ = recipe
        self.run_ = fitted.run
        self.digest_ = fitted.digest
        self.loss_curve_ = fitted.curve.losses
        self.loss_ = self.loss_curve_[-1] if self.loss_curve_ else np.inf  # stopped before an epoch's first step
        self.validation_scores_ = self._score_epochs(fitted, data) if self.early_stopping else None
        self.n_iter_ = len(fitted.curve.losses)

    @in_scikit_learns_words
    def _outputs(self, X: Any) -> NDArray:
        """Return (n, O): a probability for each class, or a value for each target, in the units of the targets."""
        check_is_fitted(self, "network_")
        schema: Schema = self.network_.schema
        return self.network_.in_units(self.network_.precise().outputs(read_features(self, schema, X)))

    def _read_targets(self, x: Any, y: Any, sample_weight: Any, goes_on: bool, classes: Any) -> Targets:
        """Return y as it is learned from, and note what it means, unless training goes on with what it meant before.

        classes: (K,) all labels, None: those in y.
        """
        raise NotImplementedError

    def _label(self, data: PreparedData) -> PreparedData:
        """Return the same data with the names that people use."""
        raise NotImplementedError

    def _score_epochs(self, fitted: Fitted, data: PreparedData) -> list[float]:
        """Return the score on the held-out examples after each epoch."""
        raise NotImplementedError
