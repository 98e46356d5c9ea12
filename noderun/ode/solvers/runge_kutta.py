"""Explicit Runge-Kutta steps from a Butcher tableau; Hairer, Norsett, Wanner, Solving ODEs I, II.1 and II.4 to II.6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.field import Field
from noderun.ode.solvers.method import Info, Method, Quadrature, Step
from noderun.ode.solvers.stages import Stages, Table
from noderun.ode.solvers.tableau import ButcherTableau
from noderun.ode.solvers.times import stage_times


class ExplicitRungeKutta(Method[Stages]):
    """k_i = f(t + c_i h, y + h sum_j a_ij k_j); y1 = y + h sum_i b_i k_i."""

    def __init__(self, name: str, tableau: ButcherTableau, source: str = "", description: str = "") -> None:
        if any(len(row) > i for i, row in enumerate(tableau.a)):
            raise ValueError(f"solver '{name}' is explicit: row i of its tableau's a has at most i weights")
        self.name, self.tableau = name, tableau
        self.order, self.error_order = tableau.order, tableau.error_order
        adaptive = tableau.error is not None
        self.info = Info(order=tableau.order, adaptive=adaptive, source=source, description=description)
        fsal, last = tableau.fsal, tableau.stages - 1
        # Stages that count in integrals beside the state and in their error; an FSAL stage counts as the first of the
        # step after.
        counting = zip(tableau.b, tableau.error or tableau.b, strict=True)
        self.weighted = tuple(b != 0 or e != 0 or (fsal and i == last) for i, (b, e) in enumerate(counting))
        self.tables: dict[tuple[torch.dtype, torch.device], Table] = {}

    def table(self, y: Tensor) -> Table:
        """Rows of a, then b, dense_a, error and the second error estimate, made once for y's dtype and device."""
        key = (y.dtype, y.device)
        if key not in self.tables:
            tableau = self.tableau
            b = tableau.a[-1] if tableau.fsal else tableau.b  # b's last weight is 0 for a stage that need not be there
            estimates = [row for row in (tableau.error, tableau.low_error) if row is not None]
            self.tables[key] = Table.of((*tableau.a, b, *tableau.dense_a), estimates, y)
        return self.tables[key]

    def start(self, y: Tensor) -> Stages:
        return Stages(self.tableau.stages + len(self.tableau.dense_c), y, self.table(y))

    def derivative(self, field: Field, t: float, y: Tensor, work: Stages) -> Tensor:
        if not work.known:
            work.evaluate(0, field, stage_times(t, 0.0, (0.0,), y, field.bounds)[0], y, self.weighted[0])
            work.known = True
        return work.derivative()

    def step(self, field: Field, t: Any, y: Tensor, h: Any, work: Stages, estimate: bool) -> Step:
        """A step from t by h: numbers, or tensors [] in double precision, with which the host reads nothing."""
        tableau, s = self.tableau, self.tableau.stages
        work.begin(y, h)
        times, state = stage_times(t, h, tableau.c, y, field.bounds), y
        if not work.known:
            work.evaluate(0, field, times[0], y, self.weighted[0])
        # Without an estimate nothing in this step needs an FSAL method's last stage.
        for i in range(1, s if estimate or not tableau.fsal else s - 1):
            state = work.stage(i, field, times[i], y, self.weighted[i])
        y1 = state if tableau.fsal and estimate else work.sum(y, s)
        error = work.estimate(s + 1 + len(tableau.dense_a)) if estimate else None
        return self.attempted(field, t, y, h, work, y1, error)

    def attempted(
        self, field: Field, t: Any, y: Tensor, h: Any, work: Stages, y1: Tensor, error: Tensor | None
    ) -> Step:
        """The step to ``y1`` whose stages are in ``work``; without an ``error`` an FSAL method lacks the last one."""
        tableau = self.tableau
        last = tableau.stages - 1 if tableau.fsal and error is not None else 0
        work.known, work.complete, work.last = True, False, last

        def interpolate(thetas: Sequence[float]) -> Tensor:
            self.complete(field, t, y, h, work, y1)
            return work.sums(y, self.dense_rows(h, thetas, y))

        step = Step(t, h, y, y1, error, interpolate)
        if field.has_quadrature:
            errors = tableau.error if error is not None and tableau.error else ()
            step.quadrature = Quadrature.of(work.integrands, tableau.b, errors, h)
        return step

    def complete(self, field: Field, t: Any, y: Tensor, h: Any, work: Stages, y1: Tensor) -> None:
        """Evaluate the stages that only the continuous extension needs, once a step."""
        tableau, s = self.tableau, self.tableau.stages
        if work.complete:
            return
        if tableau.fsal and not work.last:
            work.evaluate(s - 1, field, stage_times(t, h, (1.0,), y, field.bounds)[0], y1, True)
            work.last = s - 1
        for i, (row, c) in enumerate(zip(tableau.dense_a, tableau.dense_c, strict=True)):
            at_end = c == 1 and row == tableau.b  # f(t + h, y1): the next step's first stage
            state = y1 if at_end else work.sum(y, s + 1 + i)
            work.evaluate(s + i, field, stage_times(t, h, (c,), y, field.bounds)[0], state, at_end)
            work.last = s + i if at_end else work.last
        work.complete = True

    def dense_rows(self, h: float, thetas: Sequence[float], like: Tensor) -> Tensor:
        """Weights [n, s + 1] of k_(s-1), ..., k_0 and y in y(t + theta h)."""
        rows = [[*(h * w for w in reversed(self.tableau.dense_weights(theta))), 1.0] for theta in thetas]
        return torch.tensor(rows, dtype=like.dtype).to(like.device, non_blocking=True)

    def accept(self, work: Stages) -> None:
        work.advance()

    def restart(self, work: Stages) -> None:
        work.known = False
