"""Many attempts of a step in one graph with a loop of the compiler's: nothing comes to the host between them.

The loop decides on each attempt by the formulas of ``step_size``, as ``Stepper`` does; the stepper then decides again
from the record that the loop leaves, so that the bookkeeping of a solve stays in one place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from noderun.ode.solvers.compiled.traced import (
    MAX_NUMBERS,
    MAX_STEPS_PER_CALL,
    Attempted,
    Function,
    Loop,
    attempt,
    weighted,
)
from noderun.ode.solvers.control import Norm
from noderun.ode.solvers.device_control import (
    Tolerances,
    decide,
    first_size,
    limited,
    limits,
    size_of,
    sized,
    tolerances,
    under_way,
)
from noderun.ode.solvers.graphed import Integrands
from noderun.ode.solvers.step_size import StepController
from noderun.ode.solvers.tableau import ButcherTableau, Row

TracedLoop = tuple[Tensor, Tensor, Tensor, Tensor, Integrands, Integrands]  # a ``LoopResult`` before it is on the host

MIN_STEPS_PER_CALL = 8  # attempts in one call: fewer would not pay for a large state
LEFT = 7  # index in ``numbers`` of the number of attempts that there may be
CHEAP = 2**14  # numbers that every attempt may copy besides its own work


def attempts_per_call(tableau: ButcherTableau, size: int, rows: int) -> int:
    """The number of attempts of a state [size] that one call makes; 0 if steps are made one by one.

    A loop carries the record of its attempts and copies it in each, because it may not write to a tensor in place.
    A method whose last stage is not the next step's first would call f once more after each rejected attempt.
    """
    able = tableau.fsal and not tableau.dense_c and tableau.error is not None and tableau.low_error is None
    if not able or MIN_STEPS_PER_CALL * size * max(rows, 1) > MAX_NUMBERS:
        return 0
    return (
        max(MIN_STEPS_PER_CALL, min(MAX_STEPS_PER_CALL, CHEAP // (size * rows))) if size * rows else MAX_STEPS_PER_CALL
    )


class LoopReplay(Protocol):
    """Replaces sizes and errors by recorded ones, so that rounding cannot lead two loops apart."""

    def first(self, h: Tensor) -> Tensor:
        """The first step size, in place of h."""

    def attempt(self, size: Tensor, y: Tensor, made: Attempted) -> Attempted:
        """The attempt, with the recorded error."""


def make_loop(
    tableau: ButcherTableau, order: int, function: Function, loop: Loop, replay: LoopReplay | None = None
) -> Callable[..., TracedLoop]:
    """The function that makes many attempts in one call, for the compiler or, with a Python ``loop``, for its check.

    Its ``numbers`` are t, h, three error ratios, whether the last attempt failed; the end, the number of attempts that
    there may be, the least and the largest step; rtol and atol. f at the start is evaluated unless it is ``known``;
    with ``choose`` the first h is chosen. ``rows`` is the number of vectors that each attempt leaves, see
    ``LoopStepper``: y, and its k_(s-1), ..., k_0. The integrals start from ``totals``; with ``controlled`` their
    error counts as the state's does.
    """

    def run(
        f: Callable[..., Any],
        args: tuple[Any, ...],
        numbers: Tensor,
        given: list[Tensor | None],
        y: Tensor,
        known: tuple[Tensor, Integrands] | None,
        norm: Norm,
        controller: StepController,
        choose: bool,
        rows: int,
        controlled: bool,
        totals: Integrands,
        names: tuple[str, ...],
        params: Integrands,
    ) -> TracedLoop:
        most = attempts_per_call(tableau, len(y), rows)
        state, derivative = numbers[:6].clone(), function(f, args, names, params)
        slope, integrands = derivative(numbers[0].to(y.dtype), y) if known is None else known
        if choose:
            t, within = numbers[0], tolerances(numbers, given)
            h = limited(
                first_size(
                    lambda t, y: derivative(t.to(y.dtype), y)[0],
                    order,
                    t,
                    limits(numbers)[0] - t,
                    within,
                    y,
                    slope,
                    norm,
                ),
                numbers,
            )
            h = h if replay is None else replay.first(h)
            state = torch.cat([state[:1], h.reshape(1), state[2:]])
        place = torch.arange(most, device=y.device)

        def going(state: Tensor, y: Tensor, slope: Tensor, count: Tensor, *rest: Tensor) -> Tensor:
            return under_way(state, numbers, count, most)

        def body(
            state: Tensor, y: Tensor, slope: Tensor, count: Tensor, sizes: Tensor, record: Tensor, *rest: Tensor
        ) -> tuple[Tensor, ...]:
            h, size = sized(state, numbers)
            at_start, totals = rest[: len(integrands)], rest[len(integrands) :]
            derivative, within = function(f, args, names, params), tolerances(numbers, given)
            made = attempt(tableau, derivative, state[0], size, within, y, (slope, at_start), norm)
            if controlled:
                made = with_integrals(tableau, size, made, totals, within)
            y1, ks, each, norms = made if replay is None else replay.attempt(size, y, made)
            assert norms is not None
            ratio = norms[0].to(torch.float64)
            here = (place == count).unsqueeze(1)
            sizes = torch.where(here, torch.stack([h, size, ratio]), sizes)
            left = [y, *ks[::-1]][:rows]
            record = torch.where(here.unsqueeze(2), torch.stack(left), record) if left else record.clone()
            accepted, state = decide(controller, order, state, numbers, h, size, ratio)
            pairs = ((y1, y), (ks[-1], slope), *zip(each[-1], at_start, strict=True))
            kept = [torch.where(accepted, *pair) for pair in pairs]
            sums = [
                total + torch.where(accepted, size.to(total.dtype) * weighted(tableau.b, column), 0.0)
                for total, column in zip(totals, zip(*each, strict=True), strict=True)
            ]
            return state, *kept[:2], count + 1, sizes, record, *kept[2:], *sums

        count = torch.zeros((), dtype=torch.int64, device=y.device)
        sizes, record = numbers.new_zeros(most, 3), y.new_zeros(most, rows, len(y))
        carried = (x.clone() for x in (*integrands, *totals))
        start = (state, y.clone(), slope.clone(), count, sizes, record, *carried)
        state, y, slope, count, sizes, record, *rest = loop(going, body, start)
        found = torch.cat([count.to(sizes.dtype).reshape(1), state[1:2], sizes.reshape(-1)])
        return y, slope, record, found, tuple(rest[: len(integrands)]), tuple(rest[len(integrands) :])

    return run


def with_integrals(
    tableau: ButcherTableau, size: Tensor, made: Attempted, totals: Integrands, within: Tolerances
) -> Attempted:
    """The attempt by the larger of its errors, the state's and that of the integrals (``Integral.try_on``)."""
    y1, ks, integrands, norms = made
    assert norms is not None and tableau.error is not None

    def change(row: Row) -> Integrands:
        return tuple(size.to(column[0].dtype) * weighted(row, column) for column in zip(*integrands, strict=True))

    after = tuple(total + x for total, x in zip(totals, change(tableau.b), strict=True))
    before, now, error = (norm_of(x) for x in (totals, after, change(tableau.error)))
    rtol, atol = (x.min() for x in within)
    count = sum(total.numel() for total in totals)
    ratio = error / (atol * count**0.5 + rtol * torch.maximum(before, now))
    return y1, ks, integrands, torch.maximum(norms, ratio.to(norms.dtype))


def norm_of(vector: Integrands) -> Tensor:
    """The Euclidean norm of a vector of several tensors, in double precision."""
    return torch.stack([size_of(torch.linalg.vector_norm, x).to(torch.float64) for x in vector]).square().sum().sqrt()
