"""Many attempts of a step in one graph, whose loop is the compiler's own: between them nothing comes to the host.

What becomes of an attempt (is it taken, how large is the next) follows ``Stepper`` line by line, and is decided there
again from the record that a walk leaves: the bookkeeping of a solve stays in one place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop

from noderun.solvers.compiled.traced import Function, Shares, at_once, attempt, first_size, tolerances, weighted
from noderun.solvers.control import Controller, Norm
from noderun.solvers.tableau import ButcherTableau

# y and f(t, y) [N] after the last attempt; before each y [K, N] and, where kept, its k_(s-1), ..., k_0 [K, s, N]; the
# number of attempts, the step size to try next, and for each h, h as it was cut and the error ratio [2 + 3 K]; what is
# integrated beside the state at the end, and its integrals
Walked = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor, Shares, Shares]

FEWEST = 8  # attempts in one call: for less, large ones it would not pay


def attempts_at_once(tableau: ButcherTableau, size: int, inside: bool) -> int:
    """How many attempts of a state [size] one call makes; 0 where steps go one by one.

    A method whose last stage is not the next step's first would call f once more after each rejected attempt.
    """
    room = at_once(size * (tableau.stages + 1) if inside else size)
    able = tableau.fsal and not tableau.dense_c and tableau.error is not None and tableau.low_error is None
    return room if able and room >= FEWEST else 0


def walk_function(tableau: ButcherTableau, order: int, function: Function) -> Callable[..., Walked]:
    """``numbers``: t, h, three error ratios, whether the last attempt failed; the end, how many more attempts there may
    be, the least and the largest step; rtol and atol.

    What is not ``known`` at the start is evaluated, and with ``choose`` the first h chosen. With ``inside`` the stages
    are kept, for outputs inside the steps.
    """

    def walk(
        f: Callable[..., Any],
        args: tuple[Any, ...],
        numbers: Tensor,
        given: list[Tensor | None],
        y: Tensor,
        known: tuple[Tensor, Shares] | None,
        norm: Norm,
        controller: Controller,
        choose: bool,
        inside: bool,
        names: tuple[str, ...],
        params: Shares,
    ) -> Walked:
        most = attempts_at_once(tableau, len(y), inside)
        state, derivative = numbers[:6].clone(), function(f, args, names, params)
        slope, shares = derivative(numbers[0].to(y.dtype), y) if known is None else known
        if choose:
            t, within = numbers[0], tolerances(numbers, given)
            h = first_size(derivative, order, t, limits(numbers)[0] - t, within, y, slope, norm)
            state = torch.cat([state[:1], h.reshape(1), state[2:]])
        sizes, starts = numbers.new_zeros(most, 3), y.new_empty(most, len(y))
        stages = y.new_empty(most, tableau.stages, len(y)) if inside else None

        def going(state: Tensor, y: Tensor, slope: Tensor, count: Tensor, *beside: Tensor) -> Tensor:
            (t, h), (end, left, *_) = state[:2].unbind(), limits(numbers)
            further = (count < most) & (count < left) & (t != end)
            return further & (h.abs() > 8 * sys.float_info.epsilon * t.abs()) & (h.abs() > 1e-300)

        def body(state: Tensor, y: Tensor, slope: Tensor, count: Tensor, *beside: Tensor) -> tuple[Tensor, ...]:
            h, size = sized(state, numbers)
            at_start, totals = beside[: len(shares)], beside[len(shares) :]
            derivative, within = function(f, args, names, params), tolerances(numbers, given)
            y1, ks, each, norms = attempt(tableau, derivative, state[0], size, within, y, (slope, at_start), norm)
            assert norms is not None
            ratio = norms[0].to(torch.float64)
            record(sizes, count, torch.stack([h, size, ratio]))
            record(starts, count, y)
            if stages is not None:
                record(stages, count, torch.stack(ks[::-1]))
            taken, state = judged(controller, order, state, numbers, h, size, ratio)
            kept = [
                torch.where(taken, *pair) for pair in ((y1, y), (ks[-1], slope), *zip(each[-1], at_start, strict=True))
            ]
            sums = [
                total + torch.where(taken, size.to(total.dtype) * weighted(tableau.b, column), 0.0)
                for total, column in zip(totals, zip(*each, strict=True), strict=True)
            ]
            return state, *kept[:2], count + 1, *kept[2:], *sums

        count = torch.zeros((), dtype=torch.int64, device=y.device)
        carried = (x.clone() for x in shares)
        zeros = (torch.zeros_like(x) for x in shares)
        start = (state, y.clone(), slope.clone(), count, *carried, *zeros)
        state, y, slope, count, *beside = while_loop(going, body, start)
        found = torch.cat([count.to(sizes.dtype).reshape(1), state[1:2], sizes.reshape(-1)])
        return y, slope, starts, stages, found, tuple(beside[: len(shares)]), tuple(beside[len(shares) :])

    return walk


def record(rows: Tensor, index: Tensor, row: Tensor) -> None:
    rows.index_copy_(0, index.reshape(1), row.unsqueeze(0))


def limits(numbers: Tensor) -> tuple[Tensor, ...]:
    """The end, how many more attempts there may be, the least and the largest step."""
    return numbers[6:10].unbind()


def sized(state: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """h within its limits, and as it is cut to the end (``Control.limited``, ``Stepper.clip``)."""
    (t, wanted), (end, _, least, most) = state[:2].unbind(), limits(numbers)
    h = torch.copysign(torch.minimum(torch.maximum(wanted.abs(), least), most), wanted)
    left = end - t
    halved = torch.where(h.abs() > 0.9 * left.abs(), left / 2, h)
    return h, torch.where(h.abs() >= left.abs() * (1 - 1e-10), left, halved)


def judged(
    controller: Controller, order: int, state: Tensor, numbers: Tensor, h: Tensor, size: Tensor, ratio: Tensor
) -> tuple[Tensor, Tensor]:
    """Whether the attempt is taken, and the state after it (``Stepper.judge``); h is NaN if the error is no number."""
    (t, _, newest, before, oldest, retried), (end, _, least, _) = state.unbind(), limits(numbers)
    taken = (ratio <= 1) | ((size.abs() <= least) & torch.isfinite(ratio))
    grown = size * factor(controller, (ratio, newest, before), order, taken, retried)
    following = torch.where(taken & (size.abs() < h.abs()) & (h.abs() >= grown.abs()), h, grown)
    following = torch.where(torch.isfinite(ratio), following, torch.nan)
    reached = torch.where(size == end - t, end, t + size)
    after = torch.stack([reached, following, ratio, newest, before, torch.zeros_like(t)])
    failed = torch.stack([t, following, newest, before, oldest, torch.ones_like(t)])
    return taken, torch.where(taken, after, failed)


def factor(controller: Controller, errors: Sequence[Tensor], order: int, taken: Tensor, retried: Tensor) -> Tensor:
    """On the size (``Controller.factor``, ``Method.factor``, ``Stepper.reject``)."""
    found = controller.unlimited([e.clamp_min(1e-12) for e in errors], order)
    found = found.clamp(controller.min_factor, controller.max_factor)
    most = torch.where(taken, torch.where(retried > 0, 1.0, controller.max_factor), 0.9)
    return torch.minimum(found, most.to(found.dtype))
