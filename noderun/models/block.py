"""Blocks of continuous depth: the solution of y' = f(t, y) as a layer of a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from noderun.ode.configured import ConfiguredSolve
from noderun.ode.solvers import Solution
from noderun.ode.solvers.control import Norm, rms
from noderun.ode.solvers.nesting import map_tensors, tensors_in
from noderun.regularizers import Local, Quadrature, Regularizer
from noderun.regularizers.quadrature import Field, Integrand, drawn_by, lasting, require_tensor, with_args

Solve = Callable[..., Any]  # (f, y0, ts, **overrides) -> Solution, for instance a ConfiguredSolve
MakeDynamics = Callable[[tuple[int, ...]], nn.Module]
Times = Tensor | Sequence[float]
Given = Mapping[str, Any]
KEPT = 4  # fields of regularized solves: full batches and the last ones of their epochs, for instance


class SolveBlock(nn.Module):
    """Integrates any state over any output times: ``block(y0, ts)`` returns the Solution.

    y0 is a tensor [B, ...], or a tuple or dict of such; half precision becomes float32. ``stats`` holds the statistics
    of the last solve (None before the first). With a ``regularizer``, a forward pass in training leaves ``penalty``,
    the batch's mean of the regularizer's integral over the solve; otherwise it is None. ``observers`` are called with
    (y0, ts, given, Solution) after each solve that has neither a regularizer nor events.

    ``given`` are arguments of ``noderun.solve`` that change from batch to batch: ``args``, of which each tensor has a
    row per example, and ``jump_ts``, for instance.
    """

    def __init__(self, dynamics: nn.Module, solve: Solve) -> None:
        super().__init__()
        self.dynamics = dynamics
        self.solve = solve
        self.stats: Any = None
        self.regularizer: Regularizer | Local | None = None
        self.penalty: Tensor | None = None
        self.quadratures: list[tuple[Any, Quadrature]] = []  # of the last solves, by what they were made of
        self.observers: list[Callable[[Any, Times, Given, Solution], None]] = []

    def forward(self, y0: Any, ts: Times, **given: Any) -> Any:
        return self.integrate(y0, ts, **given)

    def integrate(self, y0: Any, ts: Times, **given: Any) -> Solution:
        """The solution at ``ts`` [T]: each tensor of ``ys`` is [T, B, ...]."""
        y0 = map_tensors(_at_least_float32, y0)
        self.penalty = None
        if self.regularizer is None or not self.training:
            solution = self.solve(self.dynamics, y0, ts, **given)
            for observe in () if "events" in given else self.observers:
                observe(y0, ts, given, solution)
        elif isinstance(self.regularizer, Local):
            solution = self._with_step(self.regularizer, y0, ts, given)
        else:
            solution = self._with_integral(self.regularizer, y0, ts, given)
        self.stats = solution.stats
        return solution

    def integrand(self, regularizer: Regularizer, y0: Any) -> Integrand:
        """What is integrated beside the state in a solve from y0."""
        return regularizer(y0)

    def point(self, state: Any, args: tuple[Any, ...]) -> tuple[Field, Any]:
        """The field of (t, y), and the state, that a ``Local`` regularizer looks at."""
        return with_args(self.dynamics, args), state

    @property
    def configured(self) -> ConfiguredSolve:
        """The solve, for those who read its choices; TypeError if it is another function."""
        if not isinstance(self.solve, ConfiguredSolve):
            raise TypeError(
                f"a block's solve is a {type(self.solve).__name__}, whose choices cannot be read; make it a "
                "ConfiguredSolve, or change one by dataclasses.replace(solve, ...)"
            )
        return self.solve

    def _with_integral(self, regularizer: Regularizer, y0: Any, ts: Times, given: Given) -> Solution:
        norm = getattr(self.solve, "norm", None)
        integrand = self.integrand(regularizer, y0)
        f = self.quadrature(integrand, y0, norm if callable(norm) else rms)
        beside = {"args": (*drawn_by(integrand), *given.get("args", ())), "norm": f.norm}
        solution = self.solve(f, f.start(y0), ts, **{**given, **beside})
        *parts, integrals = solution.ys
        self.penalty = direction(ts) * integrals[-1].mean()
        return replace(solution, ys=f.nested(parts))

    def quadrature(self, integrand: Integrand, y0: Any, norm: Norm) -> Quadrature:
        """The field of an earlier solve, if it is the same function: a GPU's graphs belong to the object."""
        layout = (type(y0), *((y.shape, y.dtype) for y in tensors_in(y0)))
        key = (id(self.dynamics), lasting(integrand), len(drawn_by(integrand)), norm, layout)
        others = [(made_of, f) for made_of, f in self.quadratures if made_of != key]
        found = next((f for made_of, f in self.quadratures if made_of == key), None)
        f = found or Quadrature(self.dynamics, integrand, y0, norm)
        self.quadratures = [*others, (key, f)][-KEPT:]
        return f

    def _with_step(self, regularizer: Local, y0: Any, ts: Times, given: Given) -> Solution:
        """Adds an output at a random time, from which the regularizer looks at one step of the solve's mean size."""
        f, point = self.point(y0, given.get("args", ()))
        require_tensor(regularizer, point)
        times = ts if isinstance(ts, Tensor) else torch.as_tensor(ts, dtype=torch.float64)
        host = times.tolist()
        span = host[-1] - host[0]
        t = host[0] + torch.rand(()).item() * span
        row = sum((time - t) * span < 0 for time in host)
        all_times = torch.cat([times[:row], times.new_tensor([t]), times[row:]])
        solution = self.solve(self.dynamics, y0, all_times, **given)
        steps = float(torch.as_tensor(solution.stats.accepted, dtype=torch.float64).mean())
        method: Any = self.configured.method
        _, y = self.point(map_tensors(lambda ys: ys[row], solution.ys), ())
        self.penalty = abs(span) * regularizer(f, method.tableau, t, y, span / steps)
        ys = map_tensors(lambda ys: torch.cat([ys[:row], ys[row + 1 :]]), solution.ys)
        return replace(solution, ts=times, ys=ys)


class ODEBlock(SolveBlock):
    """``block(y0)`` is y(t1) from y(0) = y0: a layer for classification, of the shape of its input."""

    def __init__(self, dynamics: nn.Module, solve: Solve, t1: float = 1.0) -> None:
        super().__init__(dynamics, solve)
        self.t1 = t1

    def forward(self, y0: Any) -> Any:  # type: ignore[override]
        # Times as numbers on the host: a tensor on a GPU would cost a synchronization.
        return map_tensors(lambda y: y[-1], self.integrate(y0, [0.0, self.t1]).ys)


def direction(ts: Times) -> Tensor | float:
    """1 forward in time and -1 backward: a penalty is an integral over |dt|, whichever way the solve goes."""
    return (ts[-1] - ts[0]).detach().sign() if isinstance(ts, Tensor) else math.copysign(1.0, ts[-1] - ts[0])


def _at_least_float32(y: Tensor) -> Tensor:
    """Under autocast y0 may come in half precision; the sums of the steps need more digits than f does."""
    return y if y.dtype == torch.float64 or y.is_complex() else y.float()
