"""NumPy's BLAS, and computing on one thread of it whatever else this process does.

How many threads a matrix product is split over is one number for the whole process, and it changes bits. Other code
changes it too: another run in another thread, scikit-learn, the user's own model. So a run holds the number at one,
and looks after each computation whether it has stayed there; if not, the computation is done again.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
import threadpoolctl

from distbp.errors import NumericsError

T = TypeVar("T")

MAX_ATTEMPTS = 20
"""Computations in a row that other code may spoil by changing the number of threads."""
BUFFER_SIZE = 8192
"""NumPy's own default. A sum over more values than this is cut into pieces of this size where it converts them."""
_SMALLEST_NORMAL = 2.0**-1022


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread a call; the last of all blocks that overlap gives it back what others want by then."""
    _pin.take()
    try:
        yield
    finally:
        _pin.give_back()


def pin_blas() -> None:
    """Hold BLAS to one thread a call for the rest of this process's life; again after libraries were loaded."""
    _pin.take()
    _pin.look()


def compute_exactly(compute: Callable[[], T]) -> T:
    """Return compute(), which must be a pure function, from a time in which BLAS used one thread all along.

    Raises NumericsError where that never happens, and where this thread rounds very small numbers to zero.
    """
    _pin.take()  # without context managers of our own: this stands around every step of every worker
    try:
        with np.errstate(all="ignore"):
            _set_up_numpy()
            for _ in range(MAX_ATTEMPTS):
                number = _pin.hold()
                found = compute()
                if _pin.has_held_since(number):
                    return found
    finally:
        _pin.give_back()
    raise NumericsError(
        f"something in this process set the number of BLAS threads during each of {MAX_ATTEMPTS} computations in a "
        "row; leave it alone while a run computes (in a model of your own: do not set it)"
    )


@contextmanager
def fixed_arithmetic() -> Iterator[None]:
    """Keep NumPy from what its user may have changed: the size of its buffers, which changes sums, and its errors.

    Raises NumericsError where this thread rounds very small numbers to zero.
    """
    with np.errstate(all="ignore"):
        _set_up_numpy()
        yield


def _set_up_numpy() -> None:
    """Use buffers of NumPy's own size, until the np.errstate around this ends, which gives the size back as well."""
    if np.getbufsize() != BUFFER_SIZE:
        np.setbufsize(BUFFER_SIZE)
    if _SMALLEST_NORMAL / 2 == 0:
        raise NumericsError(
            "this thread rounds numbers below 2.2e-308 to zero, which changes results; a library compiled with "
            "-ffast-math does that, or torch.set_flush_denormal(True): train in a process without it"
        )


def describe_blas() -> dict[str, Any] | None:
    """Return what threadpoolctl says of the BLAS that NumPy calls, None where that is none it knows.

    Others that are in this process, such as SciPy's own, are left out.
    """
    found = _find_numpy_blas(_list_blas())
    return None if found is None else dict(found.info())


def _list_blas() -> list[Any]:
    return [c for c in threadpoolctl.ThreadpoolController().lib_controllers if c.user_api == "blas"]


def _find_numpy_blas(controllers: list[Any]) -> Any:
    """Return the library in which NumPy's compiled code finds the symbols that tell what kind of BLAS it is."""
    numpy = ctypes.CDLL(import_module("numpy._core._multiarray_umath").__file__)
    for controller in controllers:
        for symbol in controller.check_symbols:
            ours, theirs = getattr(numpy, symbol, None), getattr(controller.dynlib, symbol, None)
            if ours is not None and theirs is not None and _address(ours) == _address(theirs):
                return controller
    return controllers[0] if len(controllers) == 1 else None  # where a library's symbols do not show in its user


def _address(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


@dataclass
class _Library:
    """One BLAS. wanted: the number of threads that it gets back."""

    get: Callable[[], int]
    set: Callable[[int], object]
    wanted: int


class _Pin:
    """Holds every BLAS of this process at one thread while somebody wants that."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._num_holders = 0
        self._libraries: dict[str, _Library] = {}
        self._num_changes = 0
        self._methods: dict[str, Any] = {}

    def take(self) -> None:
        """Begin to hold; the first also makes threadpoolctl step aside."""
        with self._lock:
            self._num_holders += 1
            if self._num_holders == 1:
                self._libraries = {}
                self.look()
                self._wrap_limits()

    def give_back(self) -> None:
        """End one hold; the last one leaves everything as others want it."""
        with self._lock:
            self._num_holders -= 1
            if self._num_holders == 0:
                self.hold()
                self._unwrap_limits()
                self._release()

    def look(self) -> None:
        """Hold the libraries as well that have been loaded since."""
        with self._lock:
            for controller in _list_blas():
                if controller.filepath not in self._libraries:
                    get, set_ = find_thread_functions(controller)
                    self._libraries[controller.filepath] = _Library(get, set_, get())
            self.hold()

    def hold(self) -> int:
        """Set one thread where it is not so, keeping in mind what is wanted; return how often others changed it."""
        for library in self._libraries.values():
            if library.get() != 1:
                with self._lock:
                    library.wanted = library.get()
                    library.set(1)
                    self._num_changes += 1
        return self._num_changes

    def has_held_since(self, number: int) -> bool:
        """Return whether nobody has changed it since `hold` returned `number`."""
        return number == self._num_changes and not any(library.get() != 1 for library in self._libraries.values())

    def _release(self) -> None:
        for library in self._libraries.values():
            library.set(library.wanted)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Let a limit find the numbers of threads as they would be without this, and set what it likes."""
        with self._lock:
            self.hold()
            self._release()
            self._num_changes += 1
            try:
                yield
            finally:
                for library in self._libraries.values():
                    library.wanted = library.get()
                    library.set(1)

    def _wrap_limits(self) -> None:
        """Make threadpoolctl's limits step aside: one set during a run and left after it would give back one thread."""
        self._methods = {name: getattr(_LIMITER, name) for name in ("__init__", "restore_original_limits")}
        for name, method in self._methods.items():
            setattr(_LIMITER, name, self._stepping_aside(method))

    def _unwrap_limits(self) -> None:
        for name, method in self._methods.items():
            setattr(_LIMITER, name, method)

    def _stepping_aside(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            with self._aside():
                return method(*arguments, **options)

        return call


def find_thread_functions(controller: Any) -> tuple[Callable[[], int], Callable[[int], object]]:
    """Return what gets and sets the number of threads, quickly and from any thread.

    That is OpenBLAS itself where it can be: threadpoolctl lets only one thread at a time set the number.
    """
    if controller.internal_api == "openblas" and controller.threading_layer != "openmp":
        for symbol in controller.check_symbols:
            get = getattr(controller.dynlib, symbol, None)
            set_ = getattr(controller.dynlib, symbol.replace("_get_", "_set_"), None)
            if get is not None and set_ is not None:
                return get, set_
    return controller.get_num_threads, controller.set_num_threads


_LIMITER: Any = threadpoolctl.threadpool_limits.__mro__[-2]
"""The class of every limit of threadpoolctl, however it is made."""
_pin = _Pin()
