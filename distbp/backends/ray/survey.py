"""Asks every node of a Ray cluster what it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from distbp.backends.ray.cluster import RayCluster, same_kernels
from distbp.backends.ray.internals import asks_for_token
from distbp.text.sentences import first_line

T = TypeVar("T")

SURVEY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What one node answered. facts: None if it did not, for the reason in `error`. skew_s: of its clock, at least."""

    address: str
    num_cpus: float
    object_store_bytes: int
    facts: T | None
    error: str | None
    skew_s: float


@dataclass(frozen=True)
class Survey(Generic[T]):
    """A whole cluster. is_private: made for this survey, on this machine alone. asks_for_token: before it runs code."""

    answers: tuple[Answer[T], ...]
    is_private: bool
    asks_for_token: bool


def survey(address: str | None, num_cpus: int, examine: Callable[..., T], *arguments: object) -> Survey[T]:
    """Return what examine(*arguments) says on every node, which is asked in a process of its own.

    Without `address` and RAY_ADDRESS a private cluster of `num_cpus` CPUs is started, and ended again.

    Raises ClusterError if the cluster cannot be reached.
    """
    cluster = RayCluster(address, num_cpus)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        asked_at = time.time()
        references = [_ask(node["NodeID"], examine, *arguments) for node in nodes]
        ray.wait(references, num_returns=len(references), timeout=SURVEY_TIMEOUT_S)
        answers = tuple(_hear(node, ref, asked_at) for node, ref in zip(nodes, references, strict=True))
        return Survey(answers, cluster.is_private, asks_for_token())
    finally:
        cluster.close()


def _ask(node_id: str, examine: Callable[..., T], *arguments: object) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy, **same_kernels())(_answer)
    return task.remote(examine, *arguments)


def _answer(examine: Callable[..., T], *arguments: object) -> tuple[T, float]:
    return examine(*arguments), time.time()


def _hear(node: dict[str, Any], reference: Any, asked_at: float) -> Answer[Any]:
    resources = node["Resources"]
    facts, skew_s, error = None, 0.0, None
    try:
        facts, clock = ray.get(reference, timeout=0)
        skew_s = max(0.0, asked_at - clock, clock - time.time())
    except GetTimeoutError:
        error = f"no answer within {SURVEY_TIMEOUT_S:.0f} s"
    except RayTaskError as failure:
        error = f"{type(failure.cause).__name__}: {failure.cause}"
    except RayError as failure:
        error = first_line(failure)
    return Answer(
        address=node["NodeManagerAddress"],
        num_cpus=float(resources.get("CPU", 0)),
        object_store_bytes=int(resources.get("object_store_memory", 0)),
        facts=facts,
        error=error,
        skew_s=skew_s,
    )
