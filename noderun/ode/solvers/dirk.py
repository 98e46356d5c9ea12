"""Diagonally implicit Runge-Kutta steps, stage by stage; Hairer, Wanner II, IV.6, and Kvaerno 2004 for ESDIRK."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from noderun.ode.solvers.extrapolation import Time, extrapolated_times
from noderun.ode.solvers.field import Field
from noderun.ode.solvers.implicit import ImplicitMethod, Work, combine
from noderun.ode.solvers.method import Snapshot, Step
from noderun.ode.solvers.newton import Weights
from noderun.ode.solvers.tableau import ButcherTableau, Row, hermite


class DiagonallyImplicit(ImplicitMethod[Work]):
    """k_i = f(t + c_i h, y + h sum_(j<=i) a_ij k_j), all a_ii equal but for an explicit first stage.

    ``filtered`` multiplies the error estimate by (I - h a_ii J)^-1, so that it stays bounded in stiff components;
    Hosea, Shampine 1996, section 4.
    """

    def __init__(
        self, name: str, tableau: ButcherTableau, source: str = "", description: str = "", filtered: bool = False
    ) -> None:
        diagonal = {row[-1] for i, row in enumerate(tableau.a) if len(row) == i + 1}
        if any(len(row) not in (0, i + 1) for i, row in enumerate(tableau.a)) or len(diagonal) != 1:
            raise ValueError(f"solver '{name}' needs a lower triangular tableau with one number on its diagonal")
        if tableau.dense_a:
            raise ValueError(f"solver '{name}' is implicit, so its tableau needs dense, without stages of its own")
        super().__init__(name, tableau.order, tableau.error_order, source, description)
        self.tableau, self.filtered = tableau, filtered
        self.gamma = tableau.a[-1][-1]
        self.accurate = tableau.a[-1] == tableau.b and tableau.c[-1] == 1  # stiffly: the last stage is the end

    def start(self, y: Tensor) -> Work:
        return Work(y)

    def attempt(self, field: Field, t: float, y: Tensor, h: float, work: Work, estimate: bool) -> Step:
        tableau = self.tableau
        ks: list[Tensor] = []
        start, *times = extrapolated_times(t, h, (0.0, *tableau.c), y, field.bounds)
        assert isinstance(start, Tensor)
        y1 = y
        for row, time in zip(tableau.a, times, strict=True):
            if len(row) == 0:
                ks.append(self.slope(field, t, y, work))
                continue
            base = combine(y, [[h * w for w in row[:-1]]], ks)[0] if ks else y
            z = self.stage(field, start, y, time, base, h, ks[-1] if ks else work.slope, work)
            ks.append(z / (h * self.gamma))
            y1 = base + z
        if not self.accurate:
            y1 = combine(y, [[h * w for w in tableau.b]], ks)[0]
        work.end = ks[-1] if self.accurate else None
        error = self.error(field, h, ks, work) if estimate and tableau.error else None

        def interpolate(thetas: Sequence[float]) -> Tensor:
            return combine(y, [[h * w for w in tableau.dense_weights(theta)] for theta in thetas], ks)

        return Step(t, h, y, y1, error, interpolate)

    def snapshot(self, work: Work) -> Snapshot:
        """The last stage of the step before, which serves as f at the current state but for Newton's error."""
        return [work.slope] if self.accurate and work.slope is not None else [], None

    def restore(self, y: Tensor, snapshot: Snapshot, newton_stages: Sequence[Tensor] = ()) -> Work:
        work = super().restore(y, snapshot, newton_stages)
        work.slope = snapshot[0][0] if snapshot and snapshot[0] else None
        return work

    def stage(
        self, field: Field, t: Tensor, y: Tensor, time: Time, base: Tensor, h: float, k: Tensor | None, work: Work
    ) -> Tensor:
        """h a_ii k_i [N]."""
        weights: Weights = ((h * self.gamma,),)
        guess = torch.zeros_like(y) if k is None else k * (h * self.gamma)
        return work.solve(field, self.control, t, y, (time,), base, weights, guess.unsqueeze(0))[0]

    def error(self, field: Field, h: float, ks: Sequence[Tensor], work: Work) -> Tensor:
        """h sum_i e_i k_i [N], never part of a graph."""
        assert self.tableau.error is not None and work.solver is not None
        with torch.no_grad():
            error = combine(torch.zeros_like(ks[0]), [[h * w for w in self.tableau.error]], ks)
            return (work.solver.apply(field, ((h * self.gamma,),), error) if self.filtered else error)[0]


def stiffly_accurate(b: Row) -> tuple[Row, ...]:
    """The cubic Hermite interpolant of a method whose first stage is f at the start and whose last is f at the end."""
    *rows, end = hermite(b)
    rows[-1] = tuple(x + y for x, y in zip(rows[-1], end, strict=True))
    return tuple(rows)
