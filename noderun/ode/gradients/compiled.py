"""Gradients through graphs: many steps pulled back in one call, and the loop of an adjoint solve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noderun.ode.gradients.backward_solve import AdjointField
from noderun.ode.gradients.discrete_adjoint import DiscreteAdjoint, StepToPullBack
from noderun.ode.gradients.field_checks import check_field_unchanged
from noderun.ode.gradients.integral import ParamIntegral, joined
from noderun.ode.gradients.stagewise import StagewiseAdjoint
from noderun.ode.solvers.field import VectorField
from noderun.ode.solvers.graphed import GraphedRungeKutta, Graphs, Integrands
from noderun.ode.solvers.integrate import Problem
from noderun.ode.solvers.loop_stepper import LoopStepper
from noderun.ode.solvers.stepper import OnStep


class GraphedDiscreteAdjoint(DiscreteAdjoint):
    """Pulls back many steps per call if f is a Module, which names its parameters; else one by one, by autograd."""

    method: GraphedRungeKutta

    def pull_back(self, steps: Iterable[StepToPullBack], most: int | None = None) -> None:
        graph = self.method.graphs(self.field, self.adjoint)
        named = params_by_name(self.problem)
        if graph is None or named is None:
            super().pull_back(steps, most)
            return
        assert self.ys is not None
        check_field_unchanged(self.gradient, self.problem, self.field, self.ys)
        for run in runs(steps, graph.steps_per_backward, most):
            if not self.pull_back_run(graph, run, named):
                super().pull_back(run)

    def pull_back_run(self, graph: Graphs, run: list[StepToPullBack], params: dict[str, Tensor]) -> bool:
        """Pull steps back in one call, from the last to the first; False if none was pulled back."""
        inside, tableau = bool(run[0][0].inside), self.method.tableau
        if not graph.steps_per_backward[inside] or self.method.control is None:
            return False
        order = run[::-1]
        starts = [state.y.detach() for _, state, _ in order]
        end = self.adjoint if inside else self.end_cotangent(run[0][0])
        inside_cotangents = self.inside_cotangents(order) if inside else None
        sizes = [(record.t, record.h) for record, _, _ in order]
        pulled = graph.pull_back(self.field, self.method.control, sizes, starts, end, inside_cotangents, params)
        if pulled is None:
            return False
        stages = tableau.stages + len(tableau.dense_a) if inside else tableau.stages - tableau.fsal
        self.field.nfe += len(run) * stages
        self.adjoint = pulled[0]
        self.add(pulled[1:])
        return True

    def inside_cotangents(self, order: list[StepToPullBack]) -> Tensor:
        """[steps, n + 2, N]: the cotangents of each step's k_(n-1), ..., k_0, y and y1 from the outputs read off it."""
        n, like = len(self.method.tableau.dense), self.cotangents
        found = like.new_empty(len(order), n + 2, like.shape[1])
        for i, (record, _, _) in enumerate(order):
            weights = self.method.dense_rows(record.h, [theta for _, theta in record.inside], like)
            torch.mm(weights.t(), like[[row for row, _ in record.inside]], out=found[i, :-1])
            ends = [row for row, theta in record.outputs if theta == 1]
            torch.sum(like[ends], dim=0, out=found[i, -1])
        return found


class CapturedDiscreteAdjoint(GraphedDiscreteAdjoint, StagewiseAdjoint):
    """The same, whose other steps are pulled back as those of an eager solve are."""


def params_by_name(problem: Problem) -> dict[str, Tensor] | None:
    """The problem's params by their names in f; None if f is not a Module, or if its args require gradients."""
    names = {id(p): name for name, p in problem.named_params.items()}
    if not isinstance(problem.field.f, nn.Module) or not all(id(p) in names for p in problem.params):
        return None
    return {names[id(p)]: p.detach() for p in problem.params}


class AdjointStepper(LoopStepper):
    """Steps along the adjoint's field; the ``integral`` for theta is carried along."""

    def __init__(self, integral: ParamIntegral, *start: Any, **options: Any) -> None:
        super().__init__(*start, **options)
        self.integral, self.controlled = integral, integral.controlled

    def run_loop(self, graph: Graphs, t_end: float, on_step: OnStep | None) -> bool:
        return super().run_loop(graph, t_end, None)  # the loop has added to the integral already

    def accept_fixed(
        self,
        moves: Sequence[tuple[float, float]],
        ends: Sequence[float],
        y: Tensor,
        record: Tensor,
        on_step: OnStep | None,
    ) -> None:
        super().accept_fixed(moves, ends, y, record, None)  # the graph has added to the integral already

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
            self.integral.set(-joined(self.integral.params, totals))

    @property
    def adjoint(self) -> type[AdjointField]:
        assert isinstance(self.field, AdjointField)
        return type(self.field)

    @property
    def called(self) -> VectorField:
        assert isinstance(self.field, AdjointField)
        return self.field.field


def runs(steps: Iterable[StepToPullBack], room: dict[bool, int], most: int | None) -> Iterator[list[StepToPullBack]]:
    """Successive steps that one call can take: all with outputs inside, or none with an output but at the run's end."""
    run: list[StepToPullBack] = []
    for step in steps:
        record = step[0]
        inside = bool(record.inside)
        if run and (bool(run[0][0].inside) != inside or (record.outputs and not inside)):
            yield run
            run = []
        run.append(step)
        if len(run) >= (most or room[inside]):
            yield run
            run = []
    if run:
        yield run
