"""Rooted trees and the order conditions that they name; Hairer, Norsett, Wanner, Solving ODEs I, II.2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations_with_replacement, product
from math import prod
from operator import mul
from typing import Any

Tree = tuple[Any, ...]  # of its branches, each a Tree; () is the single vertex
Row = Sequence[float]


@cache
def trees(order: int) -> tuple[Tree, ...]:
    """All rooted trees with ``order`` vertices: 1, 1, 2, 4, 9, 20, 48, 115, ..."""
    return tuple(forests(order - 1, order - 1))


def forests(vertices: int, largest: int) -> Iterator[Tree]:
    """All collections of trees that have so many vertices together, each tree at most ``largest``."""
    if vertices == 0:
        yield ()
        return
    for size in range(min(vertices, largest), 0, -1):
        for count in range(vertices // size, 0, -1):
            rest = list(forests(vertices - count * size, size - 1))
            for several, others in product(combinations_with_replacement(trees(size), count), rest):
                yield several + others


@cache
def size(tree: Tree) -> int:
    return 1 + sum(size(branch) for branch in tree)


@cache
def density(tree: Tree) -> int:
    """gamma(tree)."""
    return size(tree) * prod(density(branch) for branch in tree)


class ElementaryWeights:
    """Phi_i(tree) for every stage i of a tableau with these rows of a; a row may be shorter than their number.

    A formula sum_i b_i k_i has order p if sum_i b_i Phi_i(tree) = 1 / gamma(tree) for all trees of up to p vertices.
    """

    def __init__(self, a: Sequence[Row]) -> None:
        self.a = a
        self.sums: dict[Tree, list[float]] = {}  # sum_j a_ij Phi_j

    def __call__(self, tree: Tree) -> list[float]:
        weights = [1.0] * len(self.a)
        for branch in tree:
            if branch not in self.sums:
                of_branch = self(branch)
                self.sums[branch] = [sum(map(mul, row, of_branch)) for row in self.a]
            weights = list(map(mul, weights, self.sums[branch]))
        return weights

    def residual(self, b: Row, order: int, theta: float = 1.0) -> float:
        """The largest violation of the conditions of ``order`` for y(theta) = y0 + h sum_i b_i k_i."""
        return max(abs(sum(map(mul, b, self(tree))) - theta**order / density(tree)) for tree in trees(order))

    def order_of(self, b: Row, theta: float = 1.0, highest: int = 9, tolerance: float = 1e-12) -> int:
        """The highest order to which all conditions hold."""
        for order in range(1, highest + 1):
            if self.residual(b, order, theta) > tolerance:
                return order - 1
        return highest
