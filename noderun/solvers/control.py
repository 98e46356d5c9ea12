"""Step size control: tolerances, norms, the controller and the first step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

Norm = Callable[[Tensor], Tensor]


def rms(v: Tensor) -> Tensor:
    """Root mean square over all components; HNW I, (II.4.11)."""
    return torch.linalg.vector_norm(v) / max(v.numel(), 1) ** 0.5


@dataclass(frozen=True)
class Controller:
    """h_new = h safety e_n^-(kI+kP+kD)/k e_(n-1)^(kP+2kD)/k e_(n-2)^-kD/k with k = order of the estimate + 1.

    Soderlind 2003, "Digital filters in adaptive time-stepping"; kP = kD = 0 is the classical I controller of HNW I,
    (II.4.13), and kP > 0 the PI controller of HNW II, IV.2, which is smoother where stability limits the step.
    """

    integral: float = 1.0
    proportional: float = 0.0
    derivative: float = 0.0
    safety: float = 0.9
    min_factor: float = 0.2
    max_factor: float = 10.0

    def factor(self, errors: tuple[float, float, float], order: int) -> float:
        """The factor on h from the last three error ratios, newest first (1 where there was no step yet)."""
        k_i, k_p, k_d = self.integral, self.proportional, self.derivative
        newest, before, oldest = (max(e, 1e-12) for e in errors)
        power = newest ** -(k_i + k_p + k_d) * before ** (k_p + 2 * k_d) * oldest**-k_d
        return min(self.max_factor, max(self.min_factor, self.safety * power ** (1 / (order + 1))))


I_CONTROLLER = Controller()
PI_CONTROLLER = Controller(integral=0.3, proportional=0.4)
PID_CONTROLLER = Controller(integral=0.18, proportional=0.28, derivative=0.01)
CONTROLLERS = {"I": I_CONTROLLER, "PI": PI_CONTROLLER, "PID": PID_CONTROLLER}


@dataclass(frozen=True)
class Control:
    """How steps are chosen: ``dt`` fixed, or the error held below atol + rtol |y| in ``norm``."""

    rtol: float | Tensor = 1e-5
    atol: float | Tensor = 1e-7
    dt: float | None = None
    max_steps: int = 100_000
    first_step: float | None = None
    norm: Norm = rms
    controller: Controller = field(default=I_CONTROLLER)

    def ratio(self, error: Tensor, y: Tensor, y1: Tensor) -> float:
        """The error in units of the tolerance: the one number of a step that the host waits for."""
        scale = torch.maximum(y.abs(), y1.abs()).mul_(self.rtol).add_(self.atol)
        return self.norm(error.div_(scale)).item()

    def scaled(self, v: Tensor, y: Tensor) -> float:
        return self.norm(v / (self.atol + self.rtol * y.abs())).item()


def first_step(
    control: Control, f: Callable[[float, Tensor], Tensor], t: float, y: Tensor, f0: Tensor, span: float, order: int
) -> float:
    """A first step size, signed like ``span``, from the sizes of y, y' and y''; HNW I, II.4, one call of f."""
    d0, d1 = control.scaled(y, y), control.scaled(f0, y)
    h0 = 0.01 * d0 / d1 if d0 > 1e-5 and d1 > 1e-5 else 1e-6
    h0 = min(h0, abs(span))
    signed = h0 if span > 0 else -h0
    d2 = control.scaled(f(t + signed, y + signed * f0) - f0, y) / h0
    largest = max(d1, d2)
    h1 = max(1e-6, h0 * 1e-3) if largest <= 1e-15 else (0.01 / largest) ** (1 / (order + 1))
    h = min(100 * h0, h1, abs(span))
    return h if span > 0 else -h
