"""Calls into libraries that may never return: with a time limit, and signals are heard meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return call(), made in a thread of its own, so that this one hears signals meanwhile.

    Raises TimeoutError if there is no answer within `seconds`; the thread is left behind and holds up no exit.
    """
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, name="distbp-call", daemon=True).start()
    return answer.result(seconds)
