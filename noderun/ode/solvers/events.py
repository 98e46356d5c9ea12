"""Events g(t, y) = 0: seen as a change of sign between a step's ends and ``LOOKS``, located on its dense output.

Two crossings between neighbors of these leave no change of sign: ``max_step`` bounds how close together they may lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.errors import NonFiniteDynamics
from noderun.ode.solvers.field import VectorField
from noderun.ode.solvers.method import Step
from noderun.ode.solvers.roots import roots
from noderun.ode.solvers.times import NEAR, stage_times

LOOKS = (0.2, 0.4, 0.6, 0.8)  # fractions of a step at which g is evaluated, besides its ends
AFTER = 1e-4  # if g is zero at one of these, its sign is that at this fraction of the step later


@dataclass(frozen=True)
class Event:
    """A time at which ``fn(t, y)`` crosses zero: rising (``direction`` 1), falling (-1) or either way (0).

    ``fn`` returns one number, or [B] with ``per_sample=True``; a truth value rises when it becomes true. A terminal
    event ends the solve there; with a ``reset`` it goes on from the state ``reset(t, y)`` at that time instead, which
    has y's nesting and shapes. ``args`` are further arguments of ``fn`` and ``reset``; with ``per_sample=True`` their
    tensors with a leading dimension B are one per sample, and t is [b, 1, ..., 1].

    Where ``fn`` is zero at the start, as the height of a ball that is thrown from the ground, the event is its next
    zero. Crossings closer together than a fifth of a step may pass unseen.
    """

    fn: Callable[..., Tensor]
    direction: int = 0
    terminal: bool = True
    reset: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.reset is not None and not self.terminal:
            raise ValueError("an event with a reset interrupts the solve: leave terminal=True")
        if self.direction not in (-1, 0, 1):
            raise ValueError(f"an event's direction is {self.direction}; it is 1 (rising), -1 (falling) or 0 (either)")


@dataclass
class Occurrences:
    """The occurrences of one event: ts [n] and ys [n, *y0.shape], differentiable like the solve's ys.

    With ``per_sample=True`` [n, B] and [n, B, ...], in order of time and filled up with NaN.
    """

    ts: Tensor
    ys: Any


def crossed(before: Tensor, after: Tensor, direction: int) -> Tensor:
    """Whether a function went through zero in the given direction, from its values before and after."""
    rising, falling = (before < 0) & (after >= 0), (before > 0) & (after <= 0)
    return rising if direction == 1 else falling if direction == -1 else rising | falling


class EventDetector:
    """Looks for events in every step of one solution."""

    def __init__(self, events: Sequence[Event], field: VectorField, t: float, y: Tensor) -> None:
        self.events, self.field = events, field
        self.values = [self.value(which, t, y) for which in range(len(events))]

    def value(self, which: int, t: float, y: Tensor) -> Tensor:
        """g(t, y) [1] in double precision on the host."""
        time, event = stage_times(t, 0.0, (0.0,), y, self.field.bounds)[0], self.events[which]
        with torch.no_grad():
            value = as_number(event.fn(time, self.field.layout.unflatten(y.detach()), *event.args))
        if value.numel() != 1:
            raise ValueError(f"an event's function returned shape {list(value.shape)}; it returns one number")
        return value.detach().reshape(1).to("cpu", torch.float64)

    def inside(self, step: Step, t_end: float) -> tuple[list[tuple[float, int]], bool]:
        """Events in the step as (theta, which), in order and up to the first terminal one; whether there is one."""
        found, lost = [], []
        states, fractions = step.interpolate(LOOKS), (0.0, *LOOKS, 1.0)
        for which in range(len(self.events)):
            between = [self.value(which, step.t + x * step.h, y) for x, y in zip(LOOKS, states, strict=True)]
            values = [self.values[which], *between, self.value(which, t_end, step.y1)]
            for i, part in enumerate(pairwise(fractions)):
                theta = self.locate(which, step, part, values[i], values[i + 1])
                if theta is not None:
                    found.append((theta, which))
            lost += [(x, which) for x, value in zip(fractions, values, strict=True) if value.isnan()]
            self.values[which] = values[-1]
        found.sort()
        ends = [i for i, (_, which) in enumerate(found) if self.events[which].terminal]
        if lost and not (ends and found[ends[0]] < min(lost)):
            theta, which = min(lost)
            what, t = f"{describe_event(self.events, which)} is NaN", step.t + theta * step.h
            raise NonFiniteDynamics(f"{what} (t = {t:.6g}): {NonFiniteDynamics.remedy}", t, 0)
        return (found[: ends[0] + 1], True) if ends else (found, False)

    def locate(self, which: int, step: Step, part: tuple[float, float], before: Tensor, after: Tensor) -> float | None:
        """The fraction of the step at which the event happens in this part of it, None if it does not."""

        def value(theta: Tensor) -> Tensor:
            fraction = theta.item()
            return self.value(which, step.t + fraction * step.h, step.interpolate([fraction])[0])

        low, high = (torch.full_like(before, theta) for theta in part)
        if before == 0:
            low += AFTER
            before = value(low)
        if not crossed(before, after, self.events[which].direction):
            return None
        theta: float = roots(value, low, high, before, after).item()
        return theta if theta < 1 - NEAR else 1.0


def describe_event(events: Sequence[Event], which: int) -> str:
    fn = events[which].fn
    return f"the event {getattr(fn, '__name__', type(fn).__name__)}, number {which},"


def as_number(value: Any) -> Tensor:
    """An event's value as a real tensor, whatever kind of number it is; a truth value is 1 or -1."""
    exact = torch.float64 if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    value = torch.as_tensor(value, dtype=exact)
    if value.dtype == torch.bool:
        return torch.where(value, 1.0, -1.0)
    return value if value.is_floating_point() else value.double()


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

    By the implicit function theorem dt* = -dg / (dg/dt + dg/dy f), with dg the change of g(t, y) at fixed t;
    and y(t*) moves with t* by f. A function without a slope (a truth value, a sign) leaves t* a constant.
    """
    time = stage_times(t, 0.0, (0.0,), y, field.bounds)[0]
    result = torch.full((), t, dtype=dtype)
    if not torch.is_grad_enabled():
        return result, y

    def value(t: Tensor, y: Tensor) -> Tensor:
        return as_number(event.fn(t, field.layout.unflatten(y), *event.args)).reshape(())

    now = value(time, y)
    if not now.requires_grad:
        return result, y
    with torch.no_grad():
        slope = field(time, y.detach())
    rate = rates(value, time, y, slope)
    shift = -(now - now.detach()) / torch.where(rate == 0, torch.inf, rate)
    return result + shift.to(result), y + slope * shift
