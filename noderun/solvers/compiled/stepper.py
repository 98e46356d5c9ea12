"""A stepper whose graph makes many attempts in one call, for solves in which nobody looks on while they are made."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from noderun.solvers.compiled.graph import Graph
from noderun.solvers.compiled.runge_kutta import CompiledRungeKutta, graph_of
from noderun.solvers.control import Control
from noderun.solvers.field import Field, VectorField
from noderun.solvers.method import Method, Step
from noderun.solvers.stepper import OnStep, Stepper


class WalkingStepper(Stepper):
    """The attempts of a walk are judged one by one when it comes back, by the sizes and errors that it found.

    ``inside``: whether the steps will be asked for y inside them.
    """

    method: CompiledRungeKutta

    def __init__(self, method: Method, field: Field, control: Control, t: float, y: Tensor, inside: bool) -> None:
        super().__init__(method, field, control, t, y)
        self.inside = inside
        self.slope: Tensor | None = None  # f at the current y, where a walk left it
        watched = control.before or control.accepted or control.rejected
        self.walks = not (watched or self.work.recording)

    def go_on(self, t_end: float, on_step: OnStep | None) -> None:
        graph = graph_of(self.method, self.field, self.y) if self.walks else None
        if graph is not None and self.walk(graph, t_end, on_step):
            return
        if self.slope is not None:
            self.work.ks[0].copy_(self.slope)
            self.work.known, self.slope = True, None
        super().go_on(t_end, on_step)

    def restart(self) -> None:
        super().restart()
        self.slope = None

    def walk(self, graph: Graph, t_end: float, on_step: OnStep | None) -> bool:
        """As many attempts as one call makes; False where it made none."""
        assert isinstance(self.field, VectorField)
        control, slope = self.control, self.slope
        if self.h is None and control.first_step is not None:
            self.h = self.first(t_end)
        if self.h is not None:
            self.check(control.limited(self.h))
            slope = self.method.derivative(self.field, self.t, self.y, self.work) if slope is None else slope
        left = control.max_steps - self.accepted - self.rejected
        now = (self.t, self.h or 0.0, *self.errors, float(self.retried))
        numbers = (*now, t_end, left, control.min_step, control.max_step)
        walked = graph.walk(self.field, control, numbers, self.y, slope, self.inside)
        if walked is None:
            return False
        y, self.slope, starts, stages, record = walked
        made, following, *found = record.tolist()
        attempts = list(zip(*[iter(found)] * 3, strict=True))[: int(made)]
        self.field.nfe += len(attempts) * (self.method.tableau.stages - 1) + (2 if slope is None else 0)
        self.h = following
        for i, (h, size, ratio) in enumerate(attempts):
            after = starts[i + 1].clone() if i + 1 < len(attempts) else y
            step = self.seen(None if stages is None else stages[i], size, after)
            self.judge(step, h, size, ratio, t_end, on_step)
        return bool(attempts)

    def seen(self, stages: Tensor | None, size: float, after: Tensor) -> Step:
        """The step of an attempt, whose ``stages`` [s, N] are k_(s-1), ..., k_0."""
        y = self.y

        def interpolate(thetas: Sequence[float]) -> Tensor:
            assert stages is not None
            return y + torch.mm(self.method.dense_rows(size, thetas, y)[:, :-1], stages)

        return Step(self.t, size, y, after, None, interpolate)
