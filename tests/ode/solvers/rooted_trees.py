"""Rooted trees and the order conditions that they name; Hairer, Norsett, Wanner, Solving ODEs I, II.2."""

from functools import cache
from math import prod

import numpy as np

Tree = tuple  # of its branches, sorted; () is the single vertex


@cache
def trees(order: int) -> tuple[Tree, ...]:
    """All rooted trees with ``order`` vertices: 1, 1, 2, 4, 9, 20, 48, 115, ..."""
    if order == 1:
        return ((),)
    found = {
        tuple(sorted((*tree, branch)))
        for size in range(1, order)
        for branch in trees(size)
        for tree in trees(order - size)
    }
    return tuple(sorted(found))


@cache
def size(tree: Tree) -> int:
    return 1 + sum(size(branch) for branch in tree)


@cache
def density(tree: Tree) -> int:
    """gamma(tree)."""
    return size(tree) * prod(density(branch) for branch in tree)


def elementary_weights(a: np.ndarray, tree: Tree, known: dict[Tree, np.ndarray]) -> np.ndarray:
    """Phi_i(tree) for every stage i [s]; sum_i b_i Phi_i = 1/gamma is the order condition."""
    if tree not in known:
        factors = [a @ elementary_weights(a, branch, known) for branch in tree]
        known[tree] = np.prod(factors, axis=0) if factors else np.ones(len(a))
    return known[tree]


def residual(a: np.ndarray, b: np.ndarray, order: int, theta: float = 1.0) -> float:
    """The largest violation of the conditions of ``order`` for y(theta) = y0 + h sum_i b_i k_i."""
    known: dict[Tree, np.ndarray] = {}
    return max(abs(b @ elementary_weights(a, tree, known) - theta**order / density(tree)) for tree in trees(order))


def order_of(a: np.ndarray, b: np.ndarray, theta: float = 1.0, highest: int = 9, tolerance: float = 1e-12) -> int:
    """The highest order to which all conditions hold."""
    for order in range(1, highest + 1):
        if residual(a, b, order, theta) > tolerance:
            return order - 1
    return highest
