"""Richardson extrapolation: any one-step method with an error estimate and one order more.

Two steps of h/2 and one of h differ by (2^p - 1) times the error of the two; Hairer, Norsett, Wanner, I, II.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers import rk4
from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.field import Field
from noderun.ode.solvers.method import Info, Method, Quadrature, Step
from noderun.ode.solvers.times import stage_times


class Richardson(Method[Any]):
    name = "richardson"

    def __init__(self, base: Method[Any]) -> None:
        self.base = base
        self.order, self.error_order = base.order + 1, base.order
        self.gain = 2.0**base.order - 1
        self.info = Info(
            order=self.order,
            adaptive=True,
            implicit=base.info.implicit,
            source="Richardson 1911; Hairer, Norsett, Wanner, Solving ODEs I, II.4",
            description="a one-step method made adaptive, one order more: one step of h against two of h/2",
        )

    def with_options(self, method: str | None = None, **options: Any) -> Method[Any]:
        """Extrapolating ``method`` with its own ``options``; ValueError if it is not a one-step method."""
        if method is None:
            super().with_options(**options)
            return self
        from noderun.ode.solvers import METHODS, configure_method  # the registry imports this module

        able = [name for name, m in METHODS.items() if m.info.fixed_step and not m.multistep and name != self.name]
        if method not in able:
            raise ValueError(f"solver 'richardson' cannot extrapolate '{method}'; its method is one of {able}")
        return Richardson(configure_method(METHODS[method], **options))

    def with_tolerances(self, control: StepOptions) -> Richardson:
        return Richardson(self.base.with_tolerances(control))

    def start(self, y: Tensor) -> Any:
        return self.base.start(y)

    def derivative(self, field: Field, t: float, y: Tensor, work: Any) -> Tensor:
        return self.base.derivative(field, t, y, work)

    def step(self, field: Field, t: float, y: Tensor, h: float, work: Any, estimate: bool) -> Step:
        # The whole step is an attempt that is not accepted, so the first half takes f(t, y) from it.
        whole = self.base.step(field, t, y, h, work, estimate=False)
        first = self.base.step(field, t, y, h / 2, work, estimate=False)
        self.base.accept(work)
        second = self.base.step(field, t + h / 2, first.y1, h / 2, work, estimate=False)
        self.base.restart(work)  # it stands at neither the next attempt's y nor the extrapolated y1
        error = (second.y1 - whole.y1) / self.gain
        y1 = second.y1 + error

        def interpolate(thetas: Sequence[float]) -> Tensor:
            return quintic(field, t, h, (y, first.y1, y1), thetas)

        parts = first.quadrature, second.quadrature, whole.quadrature
        return Step(t, h, y, y1, error.detach() if estimate else None, interpolate, self.extrapolated(*parts))

    def extrapolated(
        self, first: Quadrature | None, second: Quadrature | None, whole: Quadrature | None
    ) -> Quadrature | None:
        if first is None or second is None or whole is None:
            return None
        halves = [*first.weights, *second.weights]
        errors = [*(w / self.gain for w in halves), *(-w / self.gain for w in whole.weights)]
        weights = [w + e for w, e in zip([*halves, *(0.0 for _ in whole.weights)], errors, strict=True)]
        return Quadrature([*first.integrands, *second.integrands, *whole.integrands], weights, errors)

    def accept(self, work: Any) -> None:
        self.base.restart(work)

    def restart(self, work: Any) -> None:
        self.base.restart(work)


def quintic(field: Field, t: float, h: float, states: Sequence[Tensor], thetas: Sequence[float]) -> Tensor:
    """[n, N]: the polynomial with the values ``states`` and the slopes f at theta = 0, 1/2 and 1; three calls of f."""
    times = stage_times(t, h, (0.0, 0.5, 1.0), states[0], field.bounds)
    slopes = [field(time, state) for time, state in zip(times, states, strict=True)]
    out = []
    for x in thetas:
        values = []
        for i, node in enumerate((0.0, 0.5, 1.0)):
            others = [other for other in (0.0, 0.5, 1.0) if other != node]
            lagrange = (x - others[0]) * (x - others[1]) / ((node - others[0]) * (node - others[1]))
            slope = sum(1 / (node - other) for other in others)
            values.append(states[i] * (lagrange**2 * (1 - 2 * slope * (x - node))))
            values.append(slopes[i] * (lagrange**2 * (x - node) * h))
        out.append(torch.stack(values).sum(0))
    return torch.stack(out)


METHOD = Richardson(rk4.METHOD)
