"""A case: contenders on one problem, the limit set by the bare f, and a check that all agree."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

Contenders = dict[str, Callable[[], Any]]
Errors = dict[str, Callable[[], float]]
LIMIT = "limit"  # the bare cost of the same number of evaluations of f (and of its vjp)


class Disagreement(ValueError):
    """A contender does not reach the accuracy of the others, so its cost would mean nothing."""


@dataclass(frozen=True)
class Case:
    suite: str
    name: str
    contenders: Contenders  # LIMIT, or what the others are given over, first
    errors: Errors  # of those that are compared with a tight float64 solve, their relative errors
    allowed: float  # the relative error that each must stay below
    once: bool = False  # timed a single time, without warming up: minutes each


@dataclass(frozen=True)
class Row:
    """One contender on one case; times in milliseconds per call, ``times_first`` over the case's first contender."""

    suite: str
    case: str
    contender: str
    milliseconds: float  # the median
    low: float
    high: float
    times_first: float
    error: float | None  # relative, against a tight float64 solve


@dataclass(frozen=True)
class Failure:
    """A contender that was not measured, and why."""

    suite: str
    case: str
    contender: str
    failure: str

    def __str__(self) -> str:
        return f"{self.contender} on {self.case}: {self.failure}"


def reason(error: Exception) -> str:
    """Its first line."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def as_arrays(result: Any) -> list[np.ndarray]:
    parts = result if isinstance(result, list) else [result]
    return [x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x) for x in parts]


def distance(values: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Relative l2 distance of all arrays together."""
    off = sum(float(np.square(v.astype(np.float64) - w).sum()) for v, w in zip(values, truth, strict=True))
    return (off / sum(float(np.square(w).sum()) for w in truth)) ** 0.5


def errors_of(contenders: Mapping[str, Callable[[], Any]], truth: Callable[[], list[np.ndarray]]) -> Errors:
    """Of each contender's result, against a truth that is computed once."""
    known = functools.cache(truth)

    def error(run: Callable[[], Any]) -> float:
        return distance(as_arrays(run()), known())

    return {name: functools.partial(error, run) for name, run in contenders.items()}


def require_agreement(error: float, allowed: float) -> None:
    if not error <= allowed:
        raise Disagreement(f"relative error {error:.1e}, more than {allowed:.0e}")
