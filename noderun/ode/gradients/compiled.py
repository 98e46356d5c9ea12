"""Gradients through compiled steps: many steps pulled back in one call, and the adjoint's own walk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from noderun.ode.gradients.backward_solve import AdjointField
from noderun.ode.gradients.discrete_adjoint import DiscreteAdjoint, StepPullback
from noderun.ode.gradients.examination import check_solve
from noderun.ode.gradients.integral import Integral, joined
from noderun.ode.solvers.compiled.graph import Graph
from noderun.ode.solvers.compiled.runge_kutta import CompiledRungeKutta, graph_of
from noderun.ode.solvers.compiled.stepper import LoopStepper
from noderun.ode.solvers.compiled.traced import Integrands
from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.field import Field, VectorField
from noderun.ode.solvers.integrate import Problem
from noderun.ode.solvers.method import Method
from noderun.ode.solvers.stepper import OnStep


class CompiledReversal(DiscreteAdjoint):
    """Where f is a Module, which names its parameters; else a step goes back over the graph that autograd records."""

    method: CompiledRungeKutta

    def back(self, pulls: Iterable[StepPullback], most: int | None = None) -> None:
        graph = graph_of(self.method, self.field, self.a)
        named = named_dependencies(self.problem)
        if graph is None or named is None:
            super().back(pulls, most)
            return
        assert self.ys is not None
        check_solve(self.gradient, self.problem, self.field, self.ys)
        for run in runs(pulls, graph.steps_per_backward, most):
            if not self.pull_run(graph, run, named):
                super().back(run)

    def pull_run(self, graph: Graph, run: list[StepPullback], params: dict[str, Tensor]) -> bool:
        """Steps from the last to the first; False where none was pulled back."""
        inside, tableau = bool(run[0][0].inside), self.method.tableau
        room = graph.steps_per_backward[inside]
        if not room or self.method.control is None:
            return False
        order = run[::-1]
        starts = self.a.new_empty(room, len(self.a))
        torch.stack([state.y.detach() for _, state, _ in order], out=starts[: len(run)])
        a = self.a if inside else self.end_cotangent(run[0][0])
        shares = self.shares(order, room) if inside else None
        moves = [(move.t, move.h) for move, _, _ in order]
        pulled = graph.pull_back(self.field, self.method.control, moves, starts, a, shares, params)
        if pulled is None:
            return False
        self.field.nfe += len(run) * (tableau.stages - (tableau.fsal and not inside))
        self.a = pulled[0]
        self.add(pulled[1:])
        return True

    def shares(self, order: list[StepPullback], room: int) -> Tensor:
        """[room, s + 2, N]: what each step's k_(s-1), ..., k_0, y and y1 receive from the outputs read off it."""
        s, like = self.method.tableau.stages, self.cotangents
        shares = like.new_empty(room, s + 2, like.shape[1])
        for i, (move, _, _) in enumerate(order):
            weights = self.method.dense_rows(move.h, [theta for _, theta in move.inside], like)
            torch.mm(weights.t(), like[[row for row, _ in move.inside]], out=shares[i, :-1])
            ends = [row for row, theta in move.outputs if theta == 1]
            torch.sum(like[ends], dim=0, out=shares[i, -1])
        return shares


def named_dependencies(problem: Problem) -> dict[str, Tensor] | None:
    """All that f depends on, by its names in f; None where f is no Module, or where its args require gradients."""
    names = {id(p): name for name, p in problem.own.items()}
    if not isinstance(problem.field.f, nn.Module) or not all(id(p) in names for p in problem.params):
        return None
    return {names[id(p)]: p.detach() for p in problem.params}


class AdjointStepper(LoopStepper):
    """Walks along the adjoint's field; the ``integral`` for theta goes along with it."""

    adjoint = True

    def __init__(
        self,
        method: Method,
        field: Field,
        control: StepOptions,
        t: float,
        y: Tensor,
        integral: Integral,
        named: dict[str, Tensor],
    ) -> None:
        super().__init__(method, field, control, t, y, params=named)
        self.integral, self.controlled = integral, integral.controlled

    def run_loop(self, graph: Graph, t_end: float, on_step: OnStep | None) -> bool:
        return super().run_loop(graph, t_end, None)  # nobody is to add to the integral what the walk has added

    def store_derivative(self, slope: Tensor, shares: Integrands) -> None:
        super().store_derivative(slope, shares)
        self.work.integrands[0] = joined(self.integral.params, shares) if shares else None

    def stored_derivative(self) -> tuple[Tensor, Integrands]:
        slope, _ = super().stored_derivative()
        integrand = self.work.integrands[0]
        return slope, () if integrand is None else tuple(self.integral.split(integrand))

    def integrals(self) -> Integrands:
        return tuple(self.integral.split(-self.integral.value))

    def set_integrals(self, totals: Integrands) -> None:
        if totals:
            self.integral.put(-joined(self.integral.params, totals))

    @property
    def called(self) -> VectorField:
        assert isinstance(self.field, AdjointField)
        return self.field.field


def runs(pulls: Iterable[StepPullback], room: dict[bool, int], most: int | None) -> Iterator[list[StepPullback]]:
    """Successive steps that one call can take: all with outputs inside, or none with an output but at the run's end."""
    run: list[StepPullback] = []
    for pull in pulls:
        move = pull[0]
        inside = bool(move.inside)
        if run and (bool(run[0][0].inside) != inside or (move.outputs and not inside)):
            yield run
            run = []
        run.append(pull)
        if len(run) >= (most or room[inside]):
            yield run
            run = []
    if run:
        yield run
