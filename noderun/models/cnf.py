"""The continuous normalizing flow of Chen et al. 2018, section 4: gated planar units, whose trace is known."""

from __future__ import annotations

from typing import Any

from noderun.dynamics.planar import PlanarUnits
from noderun.models.block import Solve
from noderun.models.continuous import ContinuousFlow


class CNF(ContinuousFlow):
    """log p(x) [B] of x [B, D] by ``units`` planar units, the paper's M, whose weights are functions of time."""

    def __init__(
        self, shape: tuple[int, ...], outputs: int, solve: Solve, *, units: int = 64, hidden: int = 32, **options: Any
    ) -> None:
        (dim,) = shape
        super().__init__(shape, [PlanarUnits(dim, units, hidden)], solve, **options)
