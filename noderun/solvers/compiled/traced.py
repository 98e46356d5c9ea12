"""What a compiled solve traces: the branch-free step, and the choice of the first step size.

The sums are those of the eager path, in the order that the compiler likes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from noderun.solvers.control import Norm
from noderun.solvers.field import Autocast
from noderun.solvers.state import Layout
from noderun.solvers.tableau import ButcherTableau, Row

Found = tuple[Tensor, Tensor, Tensor | None]  # y1 [N], k_(s-1) to k_0 [s, N], norms of the error estimates [m]
Start = tuple[Tensor, Tensor]  # f(t, y) [N], the first step size []
Function = Callable[[Callable[..., Any], tuple[Any, ...], Tensor, Tensor], Tensor]  # f, args, t, y -> dy/dt


def flat_function(layout: Layout, autocast: Autocast) -> Function:
    def derivative(f: Callable[..., Any], args: tuple[Any, ...], t: Tensor, y: Tensor) -> Tensor:
        if not autocast.enabled:
            leaves = layout.leaves(f(t, layout.unflatten(y), *args))
        else:
            with torch.autocast(autocast.device, dtype=autocast.dtype):
                leaves = layout.leaves(f(t, layout.unflatten(y), *args))
        return torch.cat([leaf.reshape(-1) for leaf in leaves]).to(y.dtype)

    return derivative


def attempt_function(tableau: ButcherTableau, layout: Layout, autocast: Autocast) -> Callable[..., Found]:
    """One attempt of a step by h from (t, y), with norms where there is a ``norm``; ``scalars`` are rtol and atol.

    Without a norm the last stage of a method where it is the next step's first is left out, unless ``whole``.
    """
    derivative = flat_function(layout, autocast)
    estimates = [row for row in (tableau.error, tableau.low_error) if row is not None]
    s, fsal = tableau.stages, tableau.fsal

    def attempt(
        f: Callable[..., Any],
        args: tuple[Any, ...],
        t: Tensor,
        h: Tensor,
        scalars: Sequence[Tensor],
        tolerances: list[Tensor | None],
        y: Tensor,
        slope: Tensor | None,
        norm: Norm | None,
        whole: bool = False,
    ) -> Found:
        size, whole = h.to(y.dtype), whole or norm is not None or not fsal
        ks: list[Tensor] = [] if slope is None else [slope]
        state = y
        for i in range(len(ks), s if whole else s - 1):
            state = y + size * weighted(tableau.a[i], ks) if i else y
            ks.append(derivative(f, args, (t + tableau.c[i] * h).to(y.dtype), state))
        y1 = state if fsal and whole else y + size * weighted(tableau.b, ks)
        stacked = torch.stack(ks[::-1])
        if norm is None:
            return y1, stacked, None
        scale = scaled(tolerances, scalars, torch.maximum(y.detach().abs(), y1.detach().abs()))
        plain = [k.detach() for k in ks]
        return y1, stacked, torch.stack([norm(size * weighted(row, plain) / scale) for row in estimates])

    return attempt


def step_function(tableau: ButcherTableau, layout: Layout, autocast: Autocast) -> Callable[..., Found]:
    """The same with ``numbers`` t, h, rtol and atol."""
    attempt = attempt_function(tableau, layout, autocast)

    def step(
        f: Callable[..., Any],
        args: tuple[Any, ...],
        numbers: Tensor,
        tolerances: list[Tensor | None],
        y: Tensor,
        slope: Tensor | None,
        norm: Norm | None,
    ) -> Found:
        t, h, *scalars = numbers.unbind()
        return attempt(f, args, t, h, scalars, tolerances, y, slope, norm)

    return step


def start_function(order: int, layout: Layout, autocast: Autocast) -> Callable[..., Start]:
    """f at the start and the first step size, as ``control.first_step``; ``numbers`` are t, the span, rtol and atol."""
    derivative = flat_function(layout, autocast)
    power = 1 / (order + 1)

    def start(
        f: Callable[..., Any],
        args: tuple[Any, ...],
        numbers: Tensor,
        tolerances: list[Tensor | None],
        y: Tensor,
        norm: Norm,
    ) -> Start:
        t, span, *scalars = numbers.unbind()
        slope = derivative(f, args, t.to(y.dtype), y)
        scale = scaled(tolerances, scalars, y.abs())
        d0, d1 = (norm(x / scale).to(torch.float64) for x in (y, slope))
        trial = torch.where((d0 > 1e-5) & (d1 > 1e-5), 0.01 * d0 / d1, 1e-6)  # control.trial_step
        trial = torch.minimum(trial, span.abs()) * torch.sign(span)
        later = derivative(f, args, (t + trial).to(y.dtype), y + trial.to(y.dtype) * slope)
        bend, h0 = norm((later - slope) / scale).to(torch.float64), trial.abs()
        largest = torch.fmax(d1, bend / h0)  # control.from_bend
        h1 = torch.where(largest <= 1e-15, (h0 * 1e-3).clamp_min(1e-6), (0.01 / largest) ** power)
        return slope, torch.copysign(torch.fmin(torch.fmin(100 * h0, h1), span.abs()), span)

    return start


def scaled(tolerances: Sequence[Tensor | None], scalars: Sequence[Tensor], size: Tensor) -> Tensor:
    """atol + rtol |y|: tolerances by component where they were given so."""
    rtol, atol = ((z if x is None else x).to(size.dtype) for x, z in zip(tolerances, scalars, strict=True))
    return atol + rtol * size


def weighted(row: Row, ks: Sequence[Tensor]) -> Tensor:
    """sum_j w_j k_j without the zeros; HNW I, (II.1.8)."""
    first, *rest = [(w, k) for w, k in zip(row, ks, strict=False) if w != 0]
    total = first[0] * first[1]
    for w, k in rest:
        total = total + w * k
    return total
