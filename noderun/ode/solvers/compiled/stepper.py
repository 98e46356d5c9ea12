"""A stepper whose graph makes many attempts in one call, for solves that nothing observes step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.compiled.graph import Graph
from noderun.ode.solvers.compiled.loop import rows_per_attempt
from noderun.ode.solvers.compiled.runge_kutta import CompiledRungeKutta, graph_of
from noderun.ode.solvers.compiled.traced import Integrands
from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.field import Field, VectorField, fingerprint
from noderun.ode.solvers.method import Method, Step
from noderun.ode.solvers.stepper import OnStep, Stepper

NONE: Mapping[str, Tensor] = MappingProxyType({})


class LoopStepper(Stepper):
    """Accepts or rejects the attempts of a call one by one when it returns, by the sizes and errors that it found.

    ``starts``: whether y at the start of the steps will be asked for; ``inside``: and y inside them.
    """

    method: CompiledRungeKutta
    adjoint = False  # whether the field is that of the adjoint
    controlled = False  # whether the error of integrals beside the state counts

    def __init__(
        self,
        method: Method[Any],
        field: Field,
        control: StepOptions,
        t: float,
        y: Tensor,
        starts: bool = False,
        inside: bool = False,
        params: Mapping[str, Tensor] = NONE,
    ) -> None:
        super().__init__(method, field, control, t, y)
        self.rows, self.params = rows_per_attempt(self.method.tableau, starts, inside), params
        self.known: tuple[Tensor, Integrands] | None = None  # f at the current y, if a call of the loop left it
        watched = control.before or control.accepted or control.rejected
        self.loops = not (watched or self.work.recording)

    @property
    def called(self) -> VectorField:
        """The field that calls f."""
        assert isinstance(self.field, VectorField)
        return self.field

    def try_step(self, t_end: float, on_step: OnStep | None) -> None:
        graph = graph_of(self.method, self.called, self.y, self.adjoint) if self.loops else None
        if graph is not None and self.run_loop(graph, t_end, on_step):
            return
        if self.known is not None:
            self.store_derivative(*self.known)
            self.work.known, self.known = True, None
        super().try_step(t_end, on_step)

    def store_derivative(self, slope: Tensor, integrands: Integrands) -> None:
        """Leave f at the end of the loop to a single step."""
        self.work.ks[0].copy_(slope)

    def stored_derivative(self) -> tuple[Tensor, Integrands]:
        """f at the current y, from a single step before."""
        return self.work.ks[0], ()

    def integrals(self) -> Integrands:
        """The integrals beside the state, so far."""
        return ()

    def set_integrals(self, totals: Integrands) -> None:
        """The same at the end of the loop."""

    def restart(self) -> None:
        super().restart()
        self.known = None

    def run_loop(self, graph: Graph, t_end: float, on_step: OnStep | None) -> bool:
        """Make as many attempts as one call does; False if it made none."""
        control, known = self.control, self.known
        if known is None and self.work.known:  # after a single step
            known = self.stored_derivative()
        if self.h is None and control.first_step is not None:
            self.h = self.initial_step(t_end)
        choose = self.h is None
        if self.h is not None:
            self.check(control.limited(self.h))
        left = control.max_steps - self.accepted - self.rejected
        now = (self.t, self.h or 0.0, *self.errors, float(self.retried))
        numbers = (*now, t_end, left, control.min_step, control.max_step)
        choices = (choose, self.rows, self.controlled, self.integrals(), self.params)
        result = graph.run_loop(self.called, control, numbers, self.y, known, *choices)
        if result is None:
            return False
        y, slope, record, found, integrands, totals = result
        made, self.h, *sizes = found.tolist()
        attempts = list(zip(*[iter(sizes)] * 3, strict=True))[: int(made)]
        self.called.nfe += len(attempts) * (self.method.tableau.stages - 1) + (known is None) + choose
        self.known = (slope, integrands)
        self.set_integrals(totals)
        for i, (h, size, ratio) in enumerate(attempts):
            # Without a record of the states, every step of the loop ends in its last state.
            after = record[i + 1, 0].clone() if self.rows and i + 1 < len(attempts) else y
            self.decide(self.seen(record[i, 1:], size, after), h, size, ratio, t_end, on_step)
        if self.field is self.called and self.called.kept and self.t == t_end:
            self.called.witness = (t_end, fingerprint(slope))
        return bool(attempts)

    def seen(self, stages: Tensor, size: float, after: Tensor) -> Step:
        """The step of an attempt, whose ``stages`` [s, N] are k_(s-1), ..., k_0."""
        y = self.y

        def interpolate(thetas: Sequence[float]) -> Tensor:
            return y + torch.mm(self.method.dense_rows(size, thetas, y)[:, :-1], stages)

        return Step(self.t, size, y, after, None, interpolate)
