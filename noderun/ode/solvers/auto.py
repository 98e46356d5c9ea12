"""Switching between an explicit and an implicit method by what limits the step; Hairer, Wanner II, IV.2.

Stability limits explicit steps if h |lambda|, estimated from the last two stages of dopri5 (both at t + h), is at the
stability boundary; implicit steps are not needed any more if h |J| lies well inside it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers import dopri5, radau5
from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.field import Field
from noderun.ode.solvers.implicit import Work
from noderun.ode.solvers.method import Info, Method, Snapshot, Step
from noderun.ode.solvers.stages import Stages

BOUNDARY = 2.7  # just inside dopri5's stability region (3.3 on the real axis): where control holds stiff steps
INSIDE = 1.5
STIFF_STEPS, EASY_STEPS, PARDON = 15, 10, 6  # in a row before a switch; steps without evidence that reset the count


class AutoWork:
    """The method at work, its own work space, and the evidence for the other method."""

    def __init__(self, y: Tensor, stiff: bool, inner: Any) -> None:
        self.y, self.stiff, self.inner = y, stiff, inner
        self.recording = torch.is_grad_enabled()
        self.product = 0.0  # h |lambda| of the current step
        self.against = self.pardon = 0


class Auto(Method[AutoWork]):
    name = "auto"
    uses_newton = True
    order, error_order = dopri5.METHOD.order, dopri5.METHOD.error_order
    info = Info(
        adaptive=True,
        fixed_step=False,
        implicit=True,
        source="Hairer, Wanner, Solving ODEs II, IV.2; Petzold 1983",
        description="dopri5 while the problem is nonstiff, radau5 while it is stiff",
    )

    def __init__(self) -> None:
        self.methods: tuple[Method[Any], Method[Any]] = (dopri5.METHOD, radau5.METHOD)

    def with_tolerances(self, control: StepOptions) -> Auto:
        method = copy.copy(self)
        method.methods = (self.methods[0].with_tolerances(control), self.methods[1].with_tolerances(control))
        return method

    def start(self, y: Tensor) -> AutoWork:
        return AutoWork(y, False, self.methods[0].start(y))

    def derivative(self, field: Field, t: float, y: Tensor, work: AutoWork) -> Tensor:
        return self.methods[work.stiff].derivative(field, t, y, work.inner)

    def step(self, field: Field, t: float, y: Tensor, h: float, work: AutoWork, estimate: bool) -> Step:
        step = self.methods[work.stiff].step(field, t, y, h, work.inner, estimate)
        if estimate:
            work.product = stiff_product(h, work.inner) if work.stiff else explicit_product(h, work.inner)
        return step

    def ratio(self, work: AutoWork, control: StepOptions, step: Step) -> float:
        return self.methods[work.stiff].ratio(work.inner, control, step)

    def factor(self, work: AutoWork, control: StepOptions, errors: tuple[float, float, float], retried: bool) -> float:
        return self.methods[work.stiff].factor(work.inner, control, errors, retried)

    def accept(self, work: AutoWork) -> None:
        self.methods[work.stiff].accept(work.inner)
        evidence = work.product < INSIDE if work.stiff else work.product > BOUNDARY
        work.against, work.pardon = (work.against + 1, 0) if evidence else (work.against, work.pardon + 1)
        if work.pardon == PARDON:
            work.against = work.pardon = 0
        if work.against >= (EASY_STEPS if work.stiff else STIFF_STEPS):
            self.switch(work)

    def switch(self, work: AutoWork) -> None:
        work.stiff, work.against, work.pardon = not work.stiff, 0, 0
        with torch.set_grad_enabled(work.recording):
            work.inner = self.methods[work.stiff].start(work.y)

    def snapshot(self, work: AutoWork) -> Snapshot:
        return [], work.stiff

    def restore(self, y: Tensor, snapshot: Snapshot, newton_stages: Sequence[Tensor] = ()) -> AutoWork:
        stiff = snapshot is not None and snapshot[1]
        return AutoWork(y, stiff, self.methods[stiff].restore(y, None, newton_stages))

    def restart(self, work: AutoWork) -> None:
        self.methods[work.stiff].restart(work.inner)


def explicit_product(h: float, stages: Stages) -> float:
    """h |f(g7) - f(g6)| / |g7 - g6| for the last two stages of dopri5; HW II, (IV.2.10)."""
    tableau = dopri5.METHOD.tableau
    weights = [h * (b - a) for b, a in zip(tableau.a[6], (*tableau.a[5], 0.0), strict=True)]
    ks = stages.ks
    apart = torch.tensor(weights, dtype=ks[0].dtype, device=ks[0].device) @ torch.stack(ks[:6])
    slopes = torch.linalg.vector_norm(ks[6] - ks[5])
    quotient: float = (abs(h) * slopes / torch.linalg.vector_norm(apart)).item()
    return quotient


def stiff_product(h: float, work: Work) -> float:
    """h |J|, a bound of h |lambda| for every eigenvalue: the smaller of the row and the column sums."""
    assert work.solver is not None and work.solver.matrix is not None
    sizes = work.solver.matrix.abs()
    bound: float = torch.minimum(sizes.sum(-1).amax(-1), sizes.sum(-2).amax(-1)).max().item()
    return abs(h) * bound


METHOD = Auto()
