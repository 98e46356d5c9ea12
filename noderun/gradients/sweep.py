"""One solve backwards in time from the last output to the first, which the continuous adjoints have in common.

    da/dt = -a^T df/dz,    dL/dtheta = -int_{t1}^{t0} a^T df/dtheta dt        (Chen et al. 2018, equations 4 and 5)

At each output its cotangent is added to a. The integral for theta does not act back on a, so it is a quadrature beside
the solve: the method's own weights times the vjp at its stages, or Gauss's formula on the step's continuous extension.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from noderun.gradients.dependence import refuse_noise
from noderun.gradients.way_back import WayBack
from noderun.solvers.control import Control
from noderun.solvers.errors import SolveError
from noderun.solvers.field import VectorField
from noderun.solvers.implicit import integrated
from noderun.solvers.integrate import Problem
from noderun.solvers.method import Step
from noderun.solvers.state import Layout
from noderun.solvers.stepper import Stepper


class AdjointField(ABC):
    """The backward vector field on a state of several parts; ``integrand`` is a^T df/dtheta at the last point."""

    weighs = True

    def __init__(self, gradient: str, field: VectorField, params: tuple[Tensor, ...], parts: int) -> None:
        self.gradient, self.field, self.params = gradient, field, params
        self.integrand: list[Tensor] | None = None
        self.factorizations, self.bounds = 0, field.bounds
        self.unproven = True  # whether f repeats itself
        shapes, sizes = field.layout.shapes * parts, field.layout.sizes * parts
        self.layout = Layout(shapes, sizes, tuple, None, False)

    @abstractmethod
    def parts(self, t: Tensor, state: Tensor, weighted: bool) -> tuple[Tensor, ...]:
        """The derivatives of the state's parts, without history."""

    @abstractmethod
    def linearize(self, t: Tensor, state: Tensor) -> Tensor:
        """The same in one, with a graph to the state, for the Jacobian of an implicit method."""

    def __call__(self, t: Tensor, y: Tensor, weighted: bool = True) -> Tensor:
        return torch.cat(self.parts(t, y, weighted))

    def target(self, out: Tensor) -> Tensor:
        return out

    def into(self, target: Tensor, t: Tensor, y: Tensor, weighted: bool = True) -> None:
        start = 0
        for part in self.parts(t, y, weighted):
            target[start : start + len(part)].copy_(part)
            start += len(part)

    def vjp(self, t: Tensor, z: Tensor, a: Tensor, weighted: bool) -> tuple[Tensor, Tensor]:
        """f(t, z) and -a^T df/dz, each [N]; a^T df/dtheta is kept where the point is ``weighted``."""
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            dz = self.field(t, z)
        if self.unproven:
            self.prove(t, z.detach(), dz.detach())
        wanted = (z, *self.params) if weighted else (z,)
        grads = torch.autograd.grad(dz, wanted, a, allow_unused=True) if dz.requires_grad else (None,) * len(wanted)
        full = [torch.zeros_like(x) if g is None else g for x, g in zip(wanted, grads, strict=True)]
        self.integrand = full[1:] if weighted else None
        return dz.detach(), -full[0]

    def prove(self, t: Tensor, z: Tensor, dz: Tensor) -> None:
        """Refuse an f that draws noise at every call; this one call more is no part of the solve, nor of its NFE."""
        self.unproven = False
        refuse_noise(self.gradient, torch.zeros_like(z), dz, self.field(t, z), self.field)
        self.field.nfe -= 1


class Sweep(ABC):
    """dL/dy0 and dL/dtheta from dL/dys [rows, N]."""

    def __init__(self, gradient: str, problem: Problem, control: Control, times: list[float], ys: Tensor) -> None:
        self.gradient, self.problem, self.times, self.ys = gradient, problem, times, ys
        self.thetas = [torch.zeros_like(p) for p in problem.params]
        self.control = control

    @abstractmethod
    def state(self, row: int, a: Tensor) -> Tensor:
        """The state to go on from at the output ``row``."""

    @abstractmethod
    def adjoint(self, state: Tensor) -> Tensor:
        """a [N] in the state that an output was reached with."""

    def run(self, field: AdjointField, cotangents: Tensor) -> Tensor:
        """dL/dy0 [N]; dL/dtheta is in ``thetas``."""
        stops = [i for i, used in enumerate((cotangents != 0).any(dim=1).tolist()) if used and i < len(self.times)]
        if not stops:
            return torch.zeros_like(cotangents[0])
        last = stops.pop()
        a = cotangents[last]
        if last == 0:
            return a.clone()
        stepper = self.stepper(field, self.times[last], self.state(last, a))
        stats, there = self.problem.stats, self.problem.control
        attempts = stats.accepted + stats.rejected
        way = WayBack(self.gradient, attempts, len(stops), there, self.control, stepper.method.error_order)

        def on_step(step: Step, t_end: float) -> None:
            self.accumulate(field, step)
            way.watch(stepper.accepted + stepper.rejected)

        try:
            for row in [i for i in reversed(stops) if i > 0] + [0]:
                stepper.advance(self.times[row], on_step)
                a = self.adjoint(stepper.y) + cotangents[row]
                if row > 0:
                    stepper.jump(self.state(row, a))
        except SolveError as error:
            raise type(error)(f"on the way back, gradient='{self.gradient}': {error}", error.t, error.step) from error
        finally:
            self.count(stepper)
        return a

    def stepper(self, field: AdjointField, t: float, y: Tensor) -> Stepper:
        method = self.problem.adjoint_method or self.problem.method
        return Stepper(method.eager, field, self.control, t, y)

    def accumulate(self, field: AdjointField, step: Step) -> None:
        if not self.thetas:
            return
        quadrature = step.quadrature or integrated(field, step).quadrature
        for weight, integrand in quadrature:
            if integrand:
                torch._foreach_add_(self.thetas, integrand, alpha=-weight)

    def count(self, stepper: Stepper) -> None:
        stats = self.problem.stats
        stats.accepted_backward = (stats.accepted_backward or 0) + stepper.accepted
        stats.rejected_backward = (stats.rejected_backward or 0) + stepper.rejected
