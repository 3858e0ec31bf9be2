"""One thread of BLAS, whatever else the process does, and everything as before when it is over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest
import threadpoolctl

from distbp.errors import NumericsError
from distbp.nn import blas
from distbp.nn.blas import compute_exactly, describe_blas, fixed_arithmetic, one_blas_thread


class OtherThread:
    """Does one thing after the other in a thread of its own."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def do(self, call: Callable[[], object]) -> None:
        self._calls.append(call)
        self._go.release()
        assert self._done.acquire(timeout=30)

    def end(self) -> None:
        self._go.release()
        self._thread.join(30)

    def _serve(self) -> None:
        while self._go.acquire() and self._calls:
            self._calls.pop()()
            self._done.release()


@pytest.fixture
def other() -> Iterator[OtherThread]:
    thread = OtherThread()
    yield thread
    thread.end()


def num_threads() -> int:
    found = describe_blas()
    assert found is not None
    return found["num_threads"]


def set_num_threads(count: int) -> None:
    """Sets it as code that knows nothing of threadpoolctl does."""
    (library,) = [c for c in threadpoolctl.ThreadpoolController().lib_controllers if "numpy" in c.filepath]
    blas.find_thread_functions(library)[1](count)


@pytest.fixture(autouse=True)
def before() -> Iterator[int]:
    """The number of threads before each test, and after it; two where this machine has one core."""
    original = num_threads()
    set_num_threads(max(2, original))
    yield num_threads()
    after = num_threads()
    set_num_threads(original)
    assert after == max(2, original)


def test_blocks_may_overlap_in_any_order(before):
    first, second = ExitStack(), ExitStack()
    first.enter_context(one_blas_thread())
    second.enter_context(one_blas_thread())
    first.close()
    assert num_threads() == 1
    second.close()
    assert num_threads() == before


@pytest.mark.parametrize("steps", ["LRrl", "RLrl", "LRlr", "RLlr", "RLrLlRlr"])
def test_a_limit_in_another_thread_leaves_no_trace(other, steps):
    """L, l: another thread enters and leaves a limit of threadpoolctl; R, r: a run begins and ends."""
    limit, run = ExitStack(), ExitStack()
    calls = {
        "L": lambda: limit.enter_context(threadpoolctl.threadpool_limits(limits=1, user_api="blas")),
        "l": limit.close,
    }
    for step in steps:
        if step in calls:
            other.do(calls[step])
        elif step == "R":
            run.enter_context(one_blas_thread())
        else:
            run.close()
        if step != "r" and step != "l":
            assert num_threads() == 1
    # the fixture compares the number with that of before


def test_a_limit_that_outlives_a_run_still_holds(other, before):
    limit = ExitStack()
    with one_blas_thread():
        other.do(lambda: limit.enter_context(threadpoolctl.threadpool_limits(limits=1, user_api="blas")))
    assert num_threads() == 1
    other.do(limit.close)
    assert num_threads() == before


def test_threadpoolctl_is_as_before():
    methods = {name: vars(blas._LIMITER)[name] for name in ("__init__", "restore_original_limits")}
    with one_blas_thread():
        assert vars(blas._LIMITER)["__init__"] is not methods["__init__"]
    assert {name: vars(blas._LIMITER)[name] for name in methods} == methods


def change_once(at: list[int], change: Callable[[], object]) -> Callable[[], int]:
    """Returns a computation that other code disturbs the first time."""

    def compute() -> int:
        at.append(num_threads())
        if len(at) == 1:
            change()
        return len(at)

    return compute


def test_what_other_code_spoiled_is_computed_again():
    at: list[int] = []
    assert compute_exactly(change_once(at, lambda: set_num_threads(3))) == 2
    assert at == [1, 1]
    set_num_threads(2)


def test_a_number_that_was_changed_and_put_back_meanwhile_is_noticed():
    def change() -> None:
        with threadpoolctl.threadpool_limits(limits=2, user_api="blas"):
            pass

    at: list[int] = []
    assert compute_exactly(change_once(at, change)) == 2


def test_what_other_code_wants_comes_back_afterwards(before):
    with one_blas_thread():
        set_num_threads(before + 1)
        assert compute_exactly(num_threads) == 1
    assert num_threads() == before + 1
    set_num_threads(before)


def test_code_that_always_changes_the_number_is_refused(before):
    with pytest.raises(NumericsError, match="set the number of BLAS threads during each of 20 computations"):
        compute_exactly(lambda: set_num_threads(before))


def test_the_size_of_numpys_buffers_changes_no_sum():
    values = np.exp(30 * np.random.default_rng(0).standard_normal(50_000)).clip(1e-30, 1e30).astype(np.float32)
    expected = values.sum(dtype=np.float64)
    size = np.setbufsize(512)
    try:
        assert values.sum(dtype=np.float64) != expected, "the buffers' size does not matter here"
        assert compute_exactly(lambda: values.sum(dtype=np.float64)) == expected
        assert np.getbufsize() == 512
    finally:
        np.setbufsize(size)


def test_errors_that_numpy_shall_raise_are_not_raised_inside_and_raised_afterwards():
    with np.errstate(all="raise"):
        with fixed_arithmetic():
            assert np.isinf(np.float32(1) / np.float32(0))
        with pytest.raises(FloatingPointError):
            np.float32(1) / np.float32(0)


def test_a_thread_that_rounds_small_numbers_to_zero_is_refused(monkeypatch):
    monkeypatch.setattr(blas, "_SMALLEST_NORMAL", 0.0)  # what half of it is there
    with pytest.raises(NumericsError, match=r"rounds numbers below 2.2e-308 to zero"):
        compute_exactly(lambda: None)


def test_numpys_blas_is_told_from_others():
    pytest.importorskip("scipy.linalg")
    found = describe_blas()
    assert found is not None
    assert "numpy" in found["filepath"]
