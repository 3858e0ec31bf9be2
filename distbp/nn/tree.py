"""The reduction tree: one fixed order in which microbatch results are added, whoever adds them.

Floating-point addition rounds, so another order gives another result: the order is part of the recipe. The leaves are
microbatches. A node over leaves [start, stop) gives its left child as many leaves as the largest power of two below
their number. So left children are perfect subtrees, and a run of consecutive leaves is made of few whole subtrees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")
Node = tuple[int, int]  # the half-open range of leaves below a node


def middle(start: int, stop: int) -> int:
    """Return where the node over leaves [start, stop), two or more, is divided."""
    return start + (1 << (stop - start - 1).bit_length() - 1)


@lru_cache(maxsize=4096)
def cover(start: int, stop: int, num_leaves: int) -> tuple[Node, ...]:
    """Return the largest whole subtrees of the tree over `num_leaves` that make up [start, stop), in order."""
    return tuple(_cover(start, stop, 0, num_leaves))


def _cover(start: int, stop: int, node_start: int, node_stop: int) -> list[Node]:
    start, stop = max(start, node_start), min(stop, node_stop)
    if start >= stop:
        return []
    if (start, stop) == (node_start, node_stop):
        return [(start, stop)]
    mid = middle(node_start, node_stop)
    return _cover(start, stop, node_start, mid) + _cover(start, stop, mid, node_stop)


def reduce_leaves(start: int, stop: int, leaf: Callable[[int], T], add: Callable[[T, T], T]) -> T:
    """Return the sum over the subtree [start, stop); at most 1 + log2(stop - start) results live at once."""
    if stop - start == 1:
        return leaf(start)
    mid = middle(start, stop)
    return add(reduce_leaves(start, mid, leaf, add), reduce_leaves(mid, stop, leaf, add))


@lru_cache(maxsize=4096)
def merge_order(nodes: tuple[Node, ...], root: Node) -> tuple[tuple[int, int], ...]:
    """Return the additions (i, j), "add number j to number i", that turn `nodes` into `root`, left in number 0.

    nodes: disjoint subtrees in order that make up `root` exactly.

    Raises ValueError if they do not.
    """
    index = {node: i for i, node in enumerate(nodes)}
    additions: list[tuple[int, int]] = []
    used: list[Node] = []

    def visit(node: Node) -> int:
        if node in index:
            used.append(node)
            return index[node]
        if node[1] - node[0] < 2:
            raise ValueError(f"microbatch {node[0]} is missing from the subtrees {list(nodes)} of {root}")
        mid = middle(*node)
        left, right = visit((node[0], mid)), visit((mid, node[1]))
        additions.append((left, right))
        return left

    visit(root)
    if tuple(used) != nodes:
        raise ValueError(f"subtrees {list(nodes)} overlap or lie outside {root}")
    return tuple(additions)


def merge(values: Sequence[T], additions: Sequence[tuple[int, int]], add: Callable[[T, T], T]) -> T:
    """Return the sum of `values` in the order that merge_order gave."""
    partial = list(values)
    for i, j in additions:
        partial[i] = add(partial[i], partial[j])
    return partial[0]
