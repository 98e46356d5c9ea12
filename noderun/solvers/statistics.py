"""What a solve cost and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass
class Statistics:
    """Counts of one solve; the backward ones are filled by ``backward()`` and None where it calls f no more."""

    nfe_forward: int = 0
    nfe_backward: int | None = None
    accepted: int = 0
    rejected: int = 0
    accepted_backward: int | None = None
    rejected_backward: int | None = None
    jacobians: int = 0  # evaluations of df/dy, forward; their calls of f are not in nfe_forward
    factorizations: int = 0  # LU, forward; a batch counts once


@dataclass
class Solution:
    """``ys`` [len(ts), *y0.shape], or y0's nesting with the time axis first in each tensor."""

    ts: Tensor
    ys: Any
    stats: Statistics
    status: str = "done"
