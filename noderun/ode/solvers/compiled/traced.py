"""The functions that a compiled solve traces: f on flat states, a step without branches, the choice of the first size.

The sums are those of the eager path, in an order that the compiler fuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vjp

from noderun.ode.solvers.control import Norm
from noderun.ode.solvers.device_control import Tolerances, scaled, size_of, tolerances
from noderun.ode.solvers.field import Autocast
from noderun.ode.solvers.graphed import Integrands
from noderun.ode.solvers.state import Layout
from noderun.ode.solvers.tableau import ButcherTableau, Row

Derivative = Callable[[Tensor, Tensor], tuple[Tensor, Integrands]]  # t, y [N] -> dy/dt [N], integrands
Function = Callable[..., Derivative]  # f, its args, names and values of its parameters -> dy/dt
Loop = Callable[[Callable[..., Tensor], Callable[..., tuple[Tensor, ...]], tuple[Tensor, ...]], tuple[Tensor, ...]]
TracedStep = tuple[Tensor, Tensor, Tensor | None]  # y1 [N], k_(s-1) to k_0 [s, N], norms of the error estimates [m]
Attempted = tuple[
    Tensor, list[Tensor], list[Integrands], Tensor | None
]  # y1 [N]; the k_i and the integrands at the stages; norms of the estimates [m]

MAX_STEPS_PER_CALL = 64  # steps in one call of a loop
MAX_NUMBERS = 2**20  # numbers that they leave or start from


def flat_function(layout: Layout, autocast: Autocast) -> Function:
    """f itself; its parameters are those that it has."""

    def function(f: Callable[..., Any], args: tuple[Any, ...], names: Sequence[str], params: Integrands) -> Derivative:
        def derivative(t: Tensor, y: Tensor) -> tuple[Tensor, Integrands]:
            if not autocast.enabled:
                leaves = layout.leaves(f(t, layout.unflatten(y), *args))
            else:
                with torch.autocast(autocast.device, dtype=autocast.dtype):
                    leaves = layout.leaves(f(t, layout.unflatten(y), *args))
            return torch.cat([leaf.reshape(-1) for leaf in leaves]).to(y.dtype), ()

        return derivative

    return function


def named_function(layout: Layout, autocast: Autocast) -> Function:
    """f of a Module as a function of its parameters, too."""
    flat = flat_function(layout, autocast)

    def function(f: Any, args: tuple[Any, ...], names: Sequence[str], params: Integrands) -> Derivative:
        named = dict(zip(names, params, strict=True))
        return flat(lambda *inputs: functional_call(f, named, inputs), args, (), ())

    return function


def adjoint_function(layout: Layout, autocast: Autocast) -> Function:
    """d(z, a)/dt = (f, -a^T df/dz) on [2 N], with the integrand a^T df/dtheta; Chen et al. 2018, equations 4 and 5."""
    named = named_function(layout, autocast)

    def function(f: Any, args: tuple[Any, ...], names: Sequence[str], params: Integrands) -> Derivative:
        def derivative(t: Tensor, state: Tensor) -> tuple[Tensor, Integrands]:
            z, a = state.chunk(2)

            def slope(z: Tensor, *values: Tensor) -> Tensor:
                return named(f, args, names, values)(t, z)[0]

            dz, pull = vjp(slope, z, *params)[:2]
            da, *param_vjps = pull(a)
            return torch.cat((dz, -da)), tuple(x.contiguous() for x in param_vjps)

        return derivative

    return function


def step_function(tableau: ButcherTableau, function: Function) -> Callable[..., TracedStep]:
    """One attempt of a step; ``numbers`` are t, h, rtol and atol."""

    def step(
        f: Callable[..., Any],
        args: tuple[Any, ...],
        numbers: Tensor,
        given: list[Tensor | None],
        y: Tensor,
        slope: Tensor | None,
        norm: Norm | None,
    ) -> TracedStep:
        t, h = numbers[:2].unbind()
        known = None if slope is None else (slope, ())
        derivative = function(f, args, (), ())
        y1, ks, _, norms = attempt(tableau, derivative, t, h, tolerances(numbers, given), y, known, norm)
        return y1, torch.stack(ks[::-1]), norms

    return step


def attempt(
    tableau: ButcherTableau,
    derivative: Derivative,
    t: Tensor,
    h: Tensor,
    within: Tolerances,
    y: Tensor,
    known: tuple[Tensor, Integrands] | None,
    norm: Norm | None,
    whole: bool = False,
) -> Attempted:
    """A step by h from (t, y), whose k_0 may be ``known``; with a ``norm`` also its error.

    Without a norm, a last stage that is the next step's first is left out, unless ``whole``.
    """
    size, whole = h.to(y.dtype), whole or norm is not None or not tableau.fsal
    ks, integrands = ([], []) if known is None else ([known[0]], [known[1]])
    state = y
    for i in range(len(ks), tableau.stages if whole else tableau.stages - 1):
        state = y + size * weighted(tableau.a[i], ks) if i else y
        k, at_stage = derivative((t + tableau.c[i] * h).to(y.dtype), state)
        ks.append(k)
        integrands.append(at_stage)
    y1 = state if tableau.fsal and whole else y + size * weighted(tableau.b, ks)
    if norm is None:
        return y1, ks, integrands, None
    scale = scaled(within, torch.maximum(y.detach().abs(), y1.detach().abs()))
    plain = [k.detach() for k in ks]
    estimates = [row for row in (tableau.error, tableau.low_error) if row is not None]
    return y1, ks, integrands, torch.stack([size_of(norm, size * weighted(row, plain) / scale) for row in estimates])


def weighted(row: Row, ks: Sequence[Tensor]) -> Tensor:
    """sum_j w_j k_j without the zeros; HNW I, (II.1.8)."""
    first, *rest = [(w, k) for w, k in zip(row, ks, strict=False) if w != 0]
    total = first[0] * first[1]
    for w, k in rest:
        total = total + w * k
    return total
