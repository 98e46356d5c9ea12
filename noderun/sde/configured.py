"""A solve of a stochastic equation with its choices made, before there is anything to integrate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from noderun.ode.gradients import Gradient
from noderun.ode.solvers import StepController
from noderun.ode.solvers.control import Norm
from noderun.sde.arguments import step_ends
from noderun.sde.engine import SDESolution, sdesolve

ROUNDING = 1e-4  # of dt: by so much may a step be longer, lest float32 times split a gap of dt into two steps


class Equation(Protocol):
    """dy = drift(t, y, *args) dt + diffusion(t, y, *args) dW."""

    drift: Callable[..., Any]
    diffusion: Callable[..., Any]


@dataclass(frozen=True)
class ConfiguredSDESolve:
    """``sdesolve`` with the arguments that do not depend on the equation, y0 and ts.

    Each field is the argument of ``noderun.sdesolve`` of the same name; None leaves it to its default there. Steps of
    ``dt`` are shorter where two output times are closer than that.
    """

    solver: str = "euler"
    noise: str | None = None
    interpretation: str | None = None
    rtol: float | None = None
    atol: float | None = None
    dt: float | None = None
    max_steps: int | None = None
    controller: str | StepController | None = None
    norm: str | Norm | None = None
    first_step: float | None = None
    min_step: float | None = None
    max_step: float | None = None
    gradient: str | Gradient | None = None
    gradient_options: Mapping[str, Any] | None = None

    def __call__(self, equation: Equation, y0: Any, ts: Tensor | Sequence[float], **overrides: Any) -> SDESolution:
        """Solve with these choices; ``overrides`` are arguments of ``sdesolve`` that replace or extend them."""
        chosen = {field.name: getattr(self, field.name) for field in fields(self)} | overrides
        if isinstance(chosen["dt"], (int, float)):
            chosen["dt"] = self.ends(ts)
        given = {name: value for name, value in chosen.items() if value is not None}
        return sdesolve(equation.drift, equation.diffusion, y0, ts, **given)

    def ends(self, ts: Tensor | Sequence[float]) -> tuple[float, ...]:
        """The times at which steps of ``dt`` end; those of ``ts`` if steps adapt."""
        outputs = torch.as_tensor(ts, dtype=torch.float64).sort().values.tolist()
        return tuple(outputs) if self.dt is None else step_ends(outputs, self.dt * (1 + ROUNDING))
