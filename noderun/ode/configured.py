"""A solve with its choices made, before there is anything to integrate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from noderun.ode.arguments import make_method
from noderun.ode.engine import solve
from noderun.ode.gradients import Gradient
from noderun.ode.solvers import Method, Solution, StepController
from noderun.ode.solvers.control import Norm
from noderun.ode.solvers.tableau import ButcherTableau


@dataclass(frozen=True)
class ConfiguredSolve:
    """``solve`` with the arguments that do not depend on f, y0 and ts.

    Each field is the argument of ``noderun.solve`` of the same name; None leaves that argument to its default there.

    >>> import torch
    >>> coarse = ConfiguredSolve(solver="euler", dt=0.5)
    >>> coarse(lambda t, y: -y, torch.ones(1), [0.0, 1.0]).ys[-1].item()
    0.25
    >>> coarse(lambda t, y: -y, torch.ones(1), [0.0, 1.0], dt=1.0).ys[-1].item()
    0.0
    """

    solver: str | Method | ButcherTableau = "dopri5"
    solver_options: Mapping[str, Any] | None = None
    compile: bool | None = None
    rtol: float | None = None
    atol: float | None = None
    dt: float | None = None
    max_steps: int | None = None
    controller: str | StepController | None = None
    norm: str | Norm | None = None
    first_step: float | None = None
    min_step: float | None = None
    max_step: float | None = None
    per_sample: bool | None = None
    gradient: str | Gradient | None = None
    gradient_rtol: float | None = None
    gradient_atol: float | None = None
    gradient_options: Mapping[str, Any] | None = None

    @property
    def method(self) -> Method:
        return make_method(self.solver, self.solver_options or {})

    def __call__(self, f: Any, y0: Any, ts: Tensor | Sequence[float], **overrides: Any) -> Solution:
        """Solve with these choices; ``overrides`` are arguments of ``solve`` that replace or extend them."""
        chosen = {field.name: getattr(self, field.name) for field in fields(self)} | overrides
        return solve(f, y0, ts, **{name: value for name, value in chosen.items() if value is not None})
