"""The result of a solve and its statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.events import Occurrences
from noderun.ode.solvers.state import Layout


@dataclass
class Statistics:
    """Counts of one solve; the backward ones are filled by ``backward()`` and None if it does not call f."""

    nfe_forward: int = 0
    nfe_backward: int | None = None
    accepted: int = 0
    rejected: int = 0
    accepted_backward: int | None = None
    rejected_backward: int | None = None
    jacobians: int = 0  # evaluations of df/dy, forward; their calls of f are not in nfe_forward
    factorizations: int = 0  # LU, forward; a batch counts once
    reconstruction_error: float | None = None  # of y0 by gradient='reversible', relative


@dataclass
class Solution:
    """``ys`` [len(ts), *y0.shape], or y0's nesting with the time axis first in each tensor.

    ``status`` is "done", "event" if a terminal one ended the solve, or with ``throw=False`` the status of the error.
    """

    ts: Tensor
    ys: Any
    stats: Statistics
    status: str = "done"
    events: tuple[Occurrences, ...] = ()
    dense: Callable[[Tensor], Tensor] | None = None
    layout: Layout | None = None

    def interpolate(self, t: Tensor | float) -> Any:
        """y at any time [] or [n] of the solve; ValueError without ``dense=True``."""
        return interpolated(self.dense, self.layout, t)


def interpolated(dense: Callable[[Tensor], Tensor] | None, layout: Layout | None, t: Tensor | float) -> Any:
    """y in the state's nesting from a continuous extension; ValueError if there is none."""
    if dense is None or layout is None:
        raise ValueError("interpolate needs the steps: give dense=True to solve")
    at = torch.as_tensor(t, dtype=torch.float64)
    ys = dense(at if at.dim() else at.reshape(1))
    return layout.unflatten(ys if at.dim() else ys[0])
