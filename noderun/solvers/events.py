"""Events g(t, y) = 0: seen as a change of sign over a step, located on its continuous extension.

Two crossings within one step leave no change of sign: ``max_step`` bounds how close together they may lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noderun.solvers.field import VectorField
from noderun.solvers.method import Step
from noderun.solvers.roots import roots

AFTER = 1e-4  # where g is zero at a step's start, its sign is taken at this fraction of the step


@dataclass(frozen=True)
class Event:
    """A time at which ``fn(t, y)`` crosses zero: rising (``direction`` 1), falling (-1) or either way (0).

    ``fn`` returns one number, or [B] with ``per_sample=True``. A terminal event ends the solve there.
    """

    fn: Callable[[Tensor, Any], Tensor]
    direction: int = 0
    terminal: bool = True

    def __post_init__(self) -> None:
        if self.direction not in (-1, 0, 1):
            raise ValueError(f"an event's direction is {self.direction}; it is 1 (rising), -1 (falling) or 0 (either)")


@dataclass
class Occurrences:
    """When and where one event happened: ts [n] and ys [n, *y0.shape], differentiable like the solve's ys.

    With ``per_sample=True`` [n, B] and [n, B, ...], in order of time and filled up with NaN.
    """

    ts: Tensor
    ys: Any


def crossed(before: Tensor, after: Tensor, direction: int) -> Tensor:
    """Whether a function went through zero in the given direction, from its values before and after."""
    rising, falling = (before < 0) & (after >= 0), (before > 0) & (after <= 0)
    return rising if direction == 1 else falling if direction == -1 else rising | falling


class Watch:
    """Looks for events in every step of one solution."""

    def __init__(self, events: Sequence[Event], field: VectorField, t: float, y: Tensor) -> None:
        self.events, self.field = events, field
        self.values = [self.value(event, t, y) for event in events]

    def value(self, event: Event, t: float, y: Tensor) -> Tensor:
        """g(t, y) [1] in double precision on the host."""
        time = torch.full((), t, dtype=y.dtype.to_real(), device=y.device)
        with torch.no_grad():
            value = event.fn(time, self.field.layout.unflatten(y.detach()))
        if value.numel() != 1:
            raise ValueError(f"an event's function returned shape {list(value.shape)}; it returns one number")
        return value.detach().reshape(1).to("cpu", torch.float64)

    def inside(self, step: Step, t_end: float) -> tuple[list[tuple[float, int]], bool]:
        """Events in the step as (theta, which), in order and up to the first terminal one; whether there is one."""
        found = []
        for which, event in enumerate(self.events):
            after = self.value(event, t_end, step.y1)
            theta = self.locate(event, step, self.values[which], after)
            self.values[which] = after
            if theta is not None:
                found.append((theta, which))
        found.sort()
        ends = [i for i, (_, which) in enumerate(found) if self.events[which].terminal]
        return (found[: ends[0] + 1], True) if ends else (found, False)

    def locate(self, event: Event, step: Step, before: Tensor, after: Tensor) -> float | None:
        def value(theta: Tensor) -> Tensor:
            fraction = theta.item()
            return self.value(event, step.t + fraction * step.h, step.interpolate([fraction])[0])

        low = torch.zeros_like(before)
        if before == 0:
            low += AFTER
            before = value(low)
        if not crossed(before, after, event.direction):
            return None
        theta = roots(value, low, before, after).item()
        return theta if theta < 1 - 1e-9 else 1.0


def rates(value: Callable[[Tensor, Tensor], Tensor], t: Tensor, y: Tensor, slope: Tensor) -> Tensor:
    """dg/dt + dg/dy f, the total derivative of g along the solution, at t [b] and y [b, N] (or [] and [N])."""
    at, state = t.detach().clone().requires_grad_(), y.detach().clone().requires_grad_()
    with torch.enable_grad():
        total = value(at, state).sum()
        g_t, g_y = torch.autograd.grad(total, (at, state), materialize_grads=True, allow_unused=True)
    return g_t + (g_y.conj() * slope).sum(-1).real


def differentiable_event(
    event: Event, field: VectorField, t: float, y: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The time [] and the state [N] of an event with their gradients, from y [N] at the fixed time t.

    By the implicit function theorem dt* = -dg / (dg/dt + dg/dy f), where dg is what g(t, y) changes by at fixed t;
    and y(t*) moves with t* by f.
    """
    time = torch.full((), t, dtype=y.dtype.to_real(), device=y.device)
    result = torch.full((), t, dtype=dtype)
    if not torch.is_grad_enabled():
        return result, y

    def value(t: Tensor, y: Tensor) -> Tensor:
        return event.fn(t, field.layout.unflatten(y)).reshape(())

    with torch.no_grad():
        slope = field(time, y.detach())
    now = value(time, y)
    shift = -(now - now.detach()) / rates(value, time, y, slope)
    return result + shift.to(result), y + slope * shift
