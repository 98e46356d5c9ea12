"""A stepper whose graph makes many attempts before the host looks, for solves that nothing observes step by step."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.errors import NonFiniteDynamics
from noderun.ode.solvers.field import Field, VectorField, fingerprint
from noderun.ode.solvers.graphed import GraphedRungeKutta, Graphs, Integrands, Known, Start, room_for
from noderun.ode.solvers.method import Method, Step
from noderun.ode.solvers.stepper import OnStep, Stepper

NONE: Mapping[str, Tensor] = MappingProxyType({})


class LoopStepper(Stepper):
    """Accepts or rejects the attempts of a call one by one when it returns, by the sizes and errors that it found.

    ``starts``: whether y at the start of the steps will be asked for; ``inside``: and y inside them.
    """

    method: GraphedRungeKutta
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
        # Vectors that an attempt leaves: y at its start if asked for, and its stages for outputs inside.
        self.rows, self.params = self.method.tableau.stages + 1 if inside else int(starts), params
        self.known: Known = None  # f at the current y, if a call of the loop left it
        self.loops = not (control.watched or self.work.recording)

    @property
    def adjoint(self) -> Any:
        """The kind of the field if it is that of an adjoint, else None."""
        return None

    @property
    def called(self) -> VectorField:
        """The field that calls f."""
        assert isinstance(self.field, VectorField)
        return self.field

    def try_step(self, t_end: float, on_step: OnStep | None) -> None:
        graphs = self.method.graphs(self.called, self.y, self.adjoint) if self.loops else None
        if graphs is not None and self.run_loop(graphs, t_end, on_step):
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

    def require_finite(self) -> None:
        if self.known is None:
            super().require_finite()
        elif not torch.isfinite(self.known[0]).all():
            raise self.failure(NonFiniteDynamics, "f returned NaN or infinity")

    def restart(self) -> None:
        super().restart()
        self.known = None

    def start(self) -> Start:
        """What the steps from here on begin with."""
        beside = (self.controlled, self.integrals(), self.params)
        return Start(self.called, self.control, self.y, self.rows, *beside)

    def run_loop(self, graphs: Graphs, t_end: float, on_step: OnStep | None) -> bool:
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
        result = graphs.run_loop(self.start(), numbers, known, choose)
        if result is None:
            return False
        y, slope, record, found, integrands, totals = result
        made, self.h, *sizes = found
        attempts = list(zip(*[iter(sizes)] * 3, strict=True))[: int(made)]
        tableau, slope_known = self.method.tableau, True
        self.called.nfe += (known is None) + choose
        self.set_integrals(totals)
        self.known = (slope, integrands)
        for i, (h, size, ratio) in enumerate(attempts):
            self.called.nfe += tableau.stages - slope_known
            # Without a record of the states, every step of the loop ends in its last state.
            after = record[i + 1, 0].clone() if self.rows and i + 1 < len(attempts) else y
            self.decide(self.seen(record[i, 1:], size, after, tableau.fsal), h, size, ratio, t_end, on_step)
            slope_known = tableau.fsal or self.retried or self.work.known
        if not (tableau.fsal or self.retried):
            self.known = None
        if self.field is self.called and self.called.kept and self.t == t_end:
            self.called.witness = (t_end, fingerprint(slope))
        return bool(attempts)

    def take_fixed_steps(self, t_end: float, on_step: OnStep | None) -> None:
        graphs = self.method.graphs(self.called, self.y, self.adjoint) if self.loops else None
        ends = self.control.steps(self.t, t_end)
        while graphs is not None and self.t != t_end and not self.stopped:
            room = min(self.control.max_steps - self.accepted, room_for(len(self.y), self.rows))
            following = list(itertools.islice(ends, room))
            starts = [self.t, *following]
            moves = [(t, end - t) for t, end in zip(starts, following, strict=False)]
            found = graphs.run_fixed(self.start(), moves) if moves else None
            if found is None:
                break
            y, record, totals = found
            self.set_integrals(totals)
            self.accept_fixed(moves, following, y, record, on_step)
        if self.t != t_end:
            super().take_fixed_steps(t_end, on_step)

    def accept_fixed(
        self,
        moves: Sequence[tuple[float, float]],
        ends: Sequence[float],
        y: Tensor,
        record: Tensor,
        on_step: OnStep | None,
    ) -> None:
        """Take over steps of given sizes from the record of each."""
        tableau = self.method.tableau
        for i, ((_, h), end) in enumerate(zip(moves, ends, strict=True)):
            self.called.nfe += tableau.stages - tableau.fsal - self.work.known
            after = record[i + 1, 0].clone() if self.rows and i + 1 < len(moves) else y
            self.accept(self.seen(record[i, 1:], h, after, False), end, on_step)

    def seen(self, stages: Tensor, size: float, after: Tensor, whole: bool) -> Step:
        """The step of an attempt, whose ``stages`` [s, N] are k_(s-1), ..., k_0; ``whole``: the last one, too."""
        t, y, method, work = self.t, self.y, self.method, self.work
        work.complete, work.last = False, 0

        def interpolate(thetas: Sequence[float]) -> Tensor:
            if whole and not method.tableau.dense_a:
                return y + torch.mm(method.dense_rows(size, thetas, y)[:, :-1], stages)
            if not work.complete:
                work.begin(y, size)
                work.rows[work.count - len(stages) : work.count].copy_(stages)
                work.last = len(stages) - 1 if whole else 0
                method.complete(self.field, t, y, size, work, after)
            return work.sums(y, method.dense_rows(size, thetas, y))

        return Step(t, size, y, after, None, interpolate)
