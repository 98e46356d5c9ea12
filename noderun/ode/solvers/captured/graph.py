"""The captured graphs of one f: forwards by attempts, backwards by steps pulled back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.captured.attempts import SIZES, Attempts, Integral
from noderun.ode.solvers.captured.capture import Captures
from noderun.ode.solvers.captured.identity import held
from noderun.ode.solvers.captured.pull import PullBack
from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.field import Field, VectorField
from noderun.ode.solvers.graphed import MOST_ATTEMPTS, FixedResult, Known, LoopResult, PulledBack, Start, room_for
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.times import Bounds

MakeField = Callable[[Bounds], Field]
FIRST_ATTEMPTS = 4  # before the host looks for the first time, until a solve has shown how many it takes


class CapturedGraphs(Captures):
    """What is replayed for one f, held as it is, and one layout of the state; or for its adjoint, a kind of field.

    Solves of one kind share their buffers, which are loaded before each run of attempts and read after it.
    """

    def __init__(self, method: ExplicitRungeKutta, field: VectorField, adjoint: Any, compiles: bool) -> None:
        super().__init__(field.f, field.args)
        self.method, self.adjoint, self.compiles = method, adjoint, compiles
        self.examined = False
        # Beside a step with outputs inside lie the cotangents of its stages and ends.
        given = room_for(sum(field.layout.sizes), len(method.tableau.dense) + 2)
        self.steps_per_backward = {False: MOST_ATTEMPTS, True: given}
        self.solves: dict[Any, Attempts] = {}
        self.pulls: dict[Any, PullBack] = {}
        self.expected: dict[Any, int] = {}  # attempts that the last run of this kind took

    def run_loop(self, start: Start, numbers: Sequence[float], known: Known, choose: bool) -> LoopResult | None:
        """Until the solve is done, the record is full or the host has to decide."""
        control, totals = start.control, start.totals
        given = [x if isinstance(x, Tensor) else None for x in (control.rtol, control.atol)]
        chosen = (held(control.norm), control.controller, start.rows, start.controlled, tuple(start.params))
        kinds = (*chosen, *(x is None for x in given))
        make = partial(self.attempts, start)
        solve = self.prepared(self.solves, kinds, make, ("evaluate", "choose", "attempt"))
        if solve is None:
            return None
        within = [0.0 if isinstance(x, Tensor) else x for x in (control.rtol, control.atol)]
        low, high, _ = start.field.bounds
        self.load_args(start.field.args)
        solve.load((*numbers, low, high, *within), given, start.y, known and known[0])
        if solve.integral is not None:
            solve.integral.load(totals, known and known[1])
        if known is None and (choose or self.method.tableau.fsal):
            solve.replays["evaluate"]()
        if choose:
            solve.replays["choose"]()
        report = self.replay(solve, (kinds, known is None))
        slope = solve.slope.clone()
        integrands, after = solve.integral.parts(totals) if solve.integral is not None else ((), totals)
        found = [report[1], report[3], *report[SIZES : SIZES + 3 * solve.room]]
        return solve.y.clone(), slope, solve.record, found, integrands, after

    def replay(self, solve: Attempts, kind: Any) -> list[float]:
        """Attempts until none is due: as many as the last solve took, then ever more; each look at the report waits."""
        attempt, batch = solve.replays["attempt"], min(self.expected.get(kind, FIRST_ATTEMPTS), solve.room)
        more = 1
        while True:
            for _ in range(batch):
                attempt()
            report: list[float] = solve.report.tolist()
            if not report[0]:
                self.expected[kind] = max(1, int(report[1]))
                return report
            batch, more = more, 2 * more

    def run_fixed(self, start: Start, moves: Sequence[tuple[float, float]]) -> FixedResult | None:
        solve = self.prepared(self.solves, (start.rows, tuple(start.params)), partial(self.attempts, start), ("fixed",))
        if solve is None:
            return None
        totals, (low, high, _) = start.totals, start.field.bounds
        self.load_args(start.field.args)
        solve.load((0.0,) * 10 + (low, high, 0.0, 0.0), [None, None], start.y, None)
        solve.load_moves(moves)
        if solve.integral is not None:
            solve.integral.load(totals, None)
        for _ in moves:
            solve.replays["fixed"]()
        return solve.y.clone(), solve.record, solve.integral.parts(totals)[1] if solve.integral is not None else totals

    def attempts(self, start: Start) -> Attempts:
        made, _ = self.maker(start.field, start.params, bool(self.adjoint))
        integral = Integral.of(start.totals, start.controlled) if start.totals else None
        return Attempts(self.method, made, start.control, start.y, start.rows, integral, self.pool)

    def pull_back(
        self,
        field: VectorField,
        control: StepOptions,
        moves: Sequence[tuple[float, float]],
        starts: Sequence[Tensor],
        a: Tensor,
        cotangents: Tensor | None,
        params: Mapping[str, Tensor],
    ) -> PulledBack | None:
        kind = (cotangents is not None, tuple(params))

        def make() -> PullBack:
            made, leaves = self.maker(field, params, True)
            return PullBack(self.method, made, a, leaves, cotangents is not None, self.pool)

        pull = self.prepared(self.pulls, kind, make, ("pull",))
        if pull is None:
            return None
        self.load_args(field.args)
        pull.load(moves, field.bounds, a)
        for i in reversed(range(len(moves))):
            pull.y.copy_(starts[i])
            if pull.cotangents is not None and cotangents is not None:
                pull.cotangents.copy_(cotangents[i])
            pull.replays["pull"]()
        return pull.a.clone(), *(g.clone() for g in pull.param_grads)

    def maker(
        self, field: VectorField, params: Mapping[str, Tensor], differentiates: bool
    ) -> tuple[MakeField, tuple[Tensor, ...]]:
        """What makes the field whose calls are captured, and the leaves that stand for f's parameters in it."""
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        own = copy.copy(field)
        own.f, own.args, own.autocast = self.f, self.args, field.autocast.without_cache()
        own.first, own.known, own.kept = False, None, False
        if differentiates:
            own.f = self.differentiable(leaves)
        if self.compiles:
            own.f = torch.compile(own.f, dynamic=False)

        def make(bounds: Bounds) -> Field:
            own.bounds = bounds
            return self.adjoint(own, tuple(leaves.values())) if self.adjoint else own

        return make, tuple(leaves.values())
