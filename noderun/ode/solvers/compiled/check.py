"""The check of each new graph against eager steps: no compiler may change a number silently.

The eager steps are those of the very functions that the graphs are made of, called without the compiler, with Python's
loops. Loops are compared over two steps, because the second goes on from what the first left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm

from noderun.ode.solvers.compiled.loop import TracedLoop
from noderun.ode.solvers.compiled.traced import Attempted, TracedStep
from noderun.ode.solvers.device_control import Tolerances, scaled
from noderun.ode.solvers.graphed import PulledBack

FEW = 2  # steps that a loop is compared over


class GraphMismatch(RuntimeError):
    """A graph gives other numbers than the function that it was made of."""


def python_loop(
    going: Callable[..., Tensor], body: Callable[..., tuple[Tensor, ...]], state: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """The loop in Python, without the compiler."""
    while bool(going(*state)):
        state = body(*state)
    return state


def require_close(what: str, found: Tensor, expected: Tensor, allowed: Tensor | float) -> None:
    """Raise GraphMismatch if they are further apart; what overflowed is not compared."""
    apart = vector_norm(torch.where(expected.isfinite(), found - expected, 0.0))
    if not bool(apart <= allowed):
        raise GraphMismatch(
            f"the compiler's {what} differ from the eager ones by {float(apart):.1e}, more than round-off"
        )


def round_off(eps: float, change: Tensor, y: Tensor) -> Tensor:
    """The distance that two ends of a step from y may have, as in the gradients' examination; eps is f's."""
    return eps**0.5 * change + 100 * torch.finfo(y.dtype).eps * vector_norm(y)


def check_step(found: TracedStep, expected: TracedStep, eps: float, h: Tensor, within: Tolerances, y: Tensor) -> None:
    """One step: its end, its stages and its error."""
    (y1, ks, norms), (eager_y1, eager_ks, eager_norms) = found, expected
    size = h.abs().to(y.dtype)
    allowed = round_off(eps, vector_norm(size * eager_ks), y)
    require_close("steps", y1, eager_y1, allowed)
    require_close("stages", size * ks, size * eager_ks, allowed)
    if norms is not None and eager_norms is not None:
        require_close("error estimates", norms, eager_norms, in_tolerances(allowed, eps, eager_norms, within, y))


def in_tolerances(allowed: Tensor, eps: float, norms: Tensor, within: Tolerances, y: Tensor) -> Tensor:
    """The distance that error estimates may have, which are in units of the tolerance."""
    return allowed / scaled(within, y.abs()).min() + eps**0.5 * vector_norm(norms)


class FollowedRecord:
    """Makes an eager loop follow the step sizes and errors of the compiled one, after checking that they are close."""

    def __init__(self, result: TracedLoop, eps: float, within: Tolerances) -> None:
        made, _, *rest = result[3].unbind()
        self.attempts = torch.stack(rest).reshape(-1, 3)[: int(made.nan_to_num())]
        self.eps, self.within = eps, within
        self.made = 0
        self.size = self.change = torch.zeros_like(result[0][:1])

    def first(self, h: Tensor) -> Tensor:
        if not len(self.attempts):
            return h
        recorded = self.attempts[0, 0]
        if not bool((0.5 < recorded / h) & (recorded / h < 2)):  # it rests on a difference of two close values of f
            raise GraphMismatch(
                f"the compiler's first step size is {float(recorded):.1e}, the eager one {float(h):.1e}"
            )
        return recorded

    def attempt(self, size: Tensor, y: Tensor, made: Attempted) -> Attempted:
        if self.made == len(self.attempts):
            raise GraphMismatch(f"the compiler's loop ended after {self.made} steps")
        y1, ks, each, norms = made
        ratio, self.made = self.attempts[self.made, 2], self.made + 1
        change = vector_norm(size.to(y.dtype) * torch.stack(ks))
        self.size, self.change = torch.maximum(self.size, size.abs()), torch.maximum(self.change, change)
        assert norms is not None
        allowed = in_tolerances(round_off(self.eps, change, y), self.eps, norms, self.within, y)
        require_close("error estimates", ratio, norms[0], allowed)
        return y1, ks, each, ratio.reshape(1)


def check_loop(result: TracedLoop, expected: TracedLoop, recorded: FollowedRecord, y: Tensor) -> None:
    """A few attempts: their end and their record."""
    size, allowed = recorded.size.to(y.dtype), round_off(recorded.eps, recorded.change, y)
    end, slope, record, found, integrands, totals = result
    eager_end, eager_slope, eager_record, eager_found, eager_integrands, eager_totals = expected
    if not torch.allclose(found, eager_found, rtol=1e-6, atol=0.0, equal_nan=True):
        raise GraphMismatch("the compiler's loop goes on with other step sizes")
    require_close("steps", end, eager_end, allowed)
    require_close("slopes", size * slope, size * eager_slope, allowed)
    for left, eager in zip(record[: recorded.made].unbind(), eager_record[: recorded.made].unbind(), strict=True):
        require_close("steps", left[:1], eager[:1], allowed)
        require_close("stages", size * left[1:], size * eager[1:], allowed)
    integrals, eager_integrals = (
        flat((*sums, *(size * g for g in values)), y)
        for sums, values in ((totals, integrands), (eager_totals, eager_integrands))
    )
    allowed = recorded.eps**0.5 * (vector_norm(eager_integrals) + recorded.change)
    require_close("integrals", integrals, eager_integrals, allowed)


def check_backward(pulled: PulledBack, expected: PulledBack, eps: float, a: Tensor) -> None:
    """A few steps pulled back."""
    found, eager = flat(pulled, a), flat(expected, a)
    change = vector_norm(expected[0] - a) + vector_norm(flat(expected[1:], a))
    require_close("gradients", found, eager, round_off(eps, change, a))


def flat(tensors: Iterable[Any], like: Tensor) -> Tensor:
    return torch.cat([like[:0], *(x.reshape(-1).to(like.dtype) for x in tensors)])
