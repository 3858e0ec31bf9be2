"""What else a process does before, during and after a run changes no bit of it, and is not changed by it."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl

from distbp import Recipe, load_run
from distbp.errors import DivergedError
from distbp.nn import blas

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wide_recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Products so large that BLAS splits them over threads, with other bits, and sums longer than NumPy's buffers."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "wide.npz"
    np.savez(path, x=rng.standard_normal((1500, 300)), y=rng.integers(0, 4, 1500))
    values = {
        "data": {"source": str(path), "scaling": "standard"},
        "model": {"hidden": [600, 300], "activation": "tanh"},
        "optimizer": {"weight_decay": 0.01, "clip_norm": 0.5},
        "global_batch_size": 256,
        "microbatch_size": 128,
        "epochs": 2,
    }
    return Recipe.model_validate(values)


@pytest.fixture
def train_wide(train_toy, wide_recipe) -> Callable[..., str]:
    """Trains the wide recipe and returns its digest."""
    return lambda name, **options: train_toy(name, wide_recipe, **options).digest


@pytest.fixture
def alone(train_wide) -> str:
    """The digest of a run that nothing disturbs."""
    return train_wide("alone")


@pytest.fixture(autouse=True)
def _blas_threads() -> Iterator[None]:
    """Compares how many threads BLAS has after a test with how many it had before."""
    before = count_threads()
    yield
    assert count_threads() == before


def count_threads() -> list[int]:
    """Return it of each library; SciPy has one of its own."""
    importlib.import_module("scipy.linalg")
    return [found["num_threads"] for found in threadpoolctl.threadpool_info() if found["user_api"] == "blas"]


def at_step(step: int, call: Callable[[], object]) -> Callable[[Any], None]:
    """Returns an observer that calls `call` once, after a step."""

    def observe(progress: Any) -> None:
        if progress.position.step == step:
            call()

    return observe


@contextmanager
def other_thread() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Yields what calls a function in another thread, always the same one, and returns its result."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda call: pool.submit(call).result(60)


def test_result_does_not_depend_on_a_run_that_begins_and_ends_meanwhile(train_wide, alone):
    with other_thread() as elsewhere:
        inner: list[str] = []
        observe = at_step(2, lambda: inner.append(elsewhere(lambda: train_wide("inner"))))
        assert train_wide("outer", observe=observe) == alone
    assert inner == [alone]


def test_result_does_not_depend_on_a_run_that_began_before_and_ends_first(train_wide, alone):
    """The first run waits at its second step for the other to have begun, which then waits for the first to end."""
    has_begun, has_ended = threading.Event(), threading.Event()

    def second() -> str:
        def observe(progress: Any) -> None:
            if progress.position.step == 2:
                has_begun.set()
                assert has_ended.wait(60)

        return train_wide("second", observe=observe)

    with ThreadPoolExecutor(1) as pool:
        found: list[Any] = []

        def begin() -> None:
            found.append(pool.submit(second))
            assert has_begun.wait(60)

        first = train_wide("first", observe=at_step(2, begin))
        has_ended.set()
        assert [first, found[0].result(60)] == [alone, alone]


@pytest.mark.parametrize("leaves_at", [3, None])
@pytest.mark.parametrize("enters_at", [None, 1])
def test_result_does_not_depend_on_limits_of_another_thread(train_wide, alone, enters_at, leaves_at):
    """None: before the run or after it. This is what a fit of scikit-learn does."""
    limit, had = ExitStack(), count_threads()
    with other_thread() as elsewhere:

        def enter() -> None:
            elsewhere(lambda: limit.enter_context(threadpoolctl.threadpool_limits(limits=1, user_api="blas")))

        def leave() -> None:
            elsewhere(limit.close)

        def observe(progress: Any) -> None:
            at_step(enters_at or 0, enter)(progress)
            at_step(leaves_at or 0, leave)(progress)

        if enters_at is None:
            enter()
        assert train_wide("limited", observe=observe) == alone
        assert count_threads() == ([1] * len(had) if leaves_at is None else had)
        if leaves_at is None:
            leave()


def test_result_does_not_depend_on_code_that_sets_the_number_of_threads(train_wide, alone):
    """As mkl.set_num_threads does, or a library of one's own: nothing puts it back."""
    functions = [
        blas.find_thread_functions(library)
        for library in threadpoolctl.ThreadpoolController().lib_controllers
        if library.user_api == "blas"
    ]
    before = [get() for get, _ in functions]

    def set_all(counts: list[int]) -> None:
        for (_, set_), count in zip(functions, counts, strict=True):
            set_(count)

    assert train_wide("set", observe=at_step(2, lambda: set_all([3] * len(functions)))) == alone
    assert [get() for get, _ in functions] == [3] * len(functions)
    set_all(before)


def test_result_does_not_depend_on_a_fit_of_scikit_learn_meanwhile(train_wide, alone):
    cluster = pytest.importorskip("sklearn.cluster")
    x = np.random.default_rng(0).standard_normal((400, 20))
    expected = cluster.KMeans(3, n_init=1, random_state=0).fit(x).inertia_
    with other_thread() as elsewhere:
        found: list[float] = []

        def fit() -> None:
            found.append(elsewhere(lambda: cluster.KMeans(3, n_init=1, random_state=0).fit(x).inertia_))

        assert train_wide("fitted", observe=at_step(2, fit)) == alone
    assert found == [expected]


@pytest.fixture
def tiny_recipe(make_recipe, tmp_path) -> Recipe:
    """Numbers so small that their squares are none, and sums of numbers of very different sizes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 6)) * np.array([1e-180, 1e-170, 1, 1, 1e3, 1e6])
    np.savez(tmp_path / "tiny.npz", x=x, y=rng.integers(0, 3, 300))
    data = {"source": str(tmp_path / "tiny.npz"), "scaling": "none"}
    return make_recipe(data=data, dtype="float64", microbatch_size=50)


@pytest.fixture
def use_other_numpy_settings(request) -> Callable[[], None]:
    """Returns what makes NumPy raise errors and work in the smallest pieces, until the test ends."""

    def use() -> None:
        size, errors = np.setbufsize(16), np.seterr(all="raise")
        request.addfinalizer(lambda: (np.setbufsize(size), np.seterr(**errors)))

    return use


@pytest.mark.parametrize("threads_per_worker", [1, 2])
def test_result_does_not_depend_on_numpys_settings(
    train_toy, tiny_recipe, use_other_numpy_settings, threads_per_worker
):
    expected = train_toy("before", tiny_recipe)
    use_other_numpy_settings()
    found = train_toy("run", tiny_recipe, threads_per_worker=threads_per_worker)
    assert (found.digest, found.train_loss, found.validation_loss) == (
        expected.digest,
        expected.train_loss,
        expected.validation_loss,
    )
    assert set(np.geterr().values()) == {"raise"}
    assert np.getbufsize() == 16


def test_use_of_a_run_does_not_depend_on_numpys_settings(train_toy, tiny_recipe, use_other_numpy_settings):
    run = train_toy("run", tiny_recipe).run
    x = np.load(tiny_recipe.data.source)["x"]
    before = load_run(run).evaluate(), load_run(run).predict(x).outputs.tobytes()
    use_other_numpy_settings()
    assert (load_run(run).evaluate(), load_run(run).predict(x).outputs.tobytes()) == before


def test_result_does_not_depend_on_the_current_folder_during_a_run(
    train_toy, make_recipe, toy_data, tmp_path, monkeypatch
):
    """Data and storage are named by relative paths; somebody changes the folder while the run goes on."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.npz").write_bytes(toy_data.read_bytes())
    recipe = make_recipe(data={"source": "toy.npz"})
    expected = train_toy("still", recipe, storage="runs", checkpoint_every_steps=1).digest
    observe = at_step(2, lambda: os.chdir("elsewhere"))
    found = train_toy("moved", recipe, storage="runs", checkpoint_every_steps=1, observe=observe)
    assert found.digest == expected
    assert Path.cwd() == tmp_path / "elsewhere"
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_run_goes_inside_a_running_event_loop_as_in_a_notebook(train_wide, alone):
    async def cell() -> str:
        return train_wide("cell")

    assert asyncio.run(cell()) == alone


def state_of_process() -> dict[str, Any]:
    """Return what a run could leave behind. Loggers that are new belong to modules that were imported."""
    return {
        "environment": dict(os.environ),
        "signals": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)},
        "loggers": {
            name: (logger.level, list(logger.handlers), logger.propagate, logger.disabled)
            for name, logger in [*logging.root.manager.loggerDict.items(), ("root", logging.root)]
            if isinstance(logger, logging.Logger)
        },
        "warnings": list(warnings.filters),
        "folder": Path.cwd(),
        "path": list(sys.path),
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "streams": (sys.stdout, sys.stderr),
        "numpy": (np.geterr(), np.getbufsize(), np.get_printoptions()),
        "threads": set(threading.enumerate()),
        "umask": read_umask(),
    }


def read_umask() -> int:
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


def test_a_run_leaves_the_process_as_it_was(train_toy):
    train_toy("imports")
    before = state_of_process()
    train_toy("run", workers=2)
    assert state_of_process() == before


def test_a_run_that_fails_leaves_the_process_as_it_was(train_toy, make_recipe):
    train_toy("imports")
    before = state_of_process()
    with pytest.raises(DivergedError):
        train_toy("run", make_recipe(optimizer={"learning_rate": 1e38}))
    assert state_of_process() == before


def test_a_run_in_another_thread_leaves_the_process_as_it_was(train_toy):
    with other_thread() as elsewhere:
        elsewhere(lambda: train_toy("imports"))
        before = state_of_process()
        elsewhere(lambda: train_toy("run"))
        assert state_of_process() == before
