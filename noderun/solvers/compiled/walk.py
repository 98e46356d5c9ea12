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

from noderun.solvers.compiled.traced import attempt_function, start_function
from noderun.solvers.control import Controller, Norm
from noderun.solvers.field import Autocast
from noderun.solvers.state import Layout
from noderun.solvers.tableau import ButcherTableau

# y and f(t, y) [N] after the last attempt; before each y [K, N] and, where kept, its k_(s-1), ..., k_0 [K, s, N]; the
# number of attempts, the step size to try next, and for each h, h as it was cut and the error ratio [2 + 3 K]
Walked = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]

MOST = 64  # attempts in one call
ROOM = 2**20  # numbers in their record


def attempts_at_once(tableau: ButcherTableau, size: int, inside: bool) -> int:
    """How many attempts of a state [size] one call makes; 0 where steps go one by one.

    A method whose last stage is not the next step's first would call f once more after each rejected attempt.
    """
    room = min(MOST, ROOM // max(size * (tableau.stages + 1 if inside else 1), 1))
    able = tableau.fsal and not tableau.dense_c and tableau.error is not None and tableau.low_error is None
    return room if able and room > 1 else 0


def walk_function(tableau: ButcherTableau, order: int, layout: Layout, autocast: Autocast) -> Callable[..., Walked]:
    """``numbers``: t, h, three error ratios, whether the last attempt failed; the end, how many more attempts there may
    be, the least and the largest step; rtol and atol. Without a ``slope`` it is evaluated and the first h chosen.
    With ``inside`` the stages are kept, for outputs inside the steps.
    """
    attempt = attempt_function(tableau, layout, autocast)
    start = start_function(order, layout, autocast)

    def walk(
        f: Callable[..., Any],
        args: tuple[Any, ...],
        numbers: Tensor,
        tolerances: list[Tensor | None],
        y: Tensor,
        slope: Tensor | None,
        norm: Norm,
        controller: Controller,
        inside: bool,
    ) -> Walked:
        most = attempts_at_once(tableau, len(y), inside)
        state = numbers[:6].clone()
        if slope is None:
            given = torch.stack([numbers[0], numbers[6] - numbers[0], *numbers[10:].unbind()])
            slope, h = start(f, args, given, tolerances, y, norm)
            state = torch.cat([state[:1], h.reshape(1), state[2:]])
        sizes, starts = numbers.new_zeros(most, 3), y.new_empty(most, len(y))
        stages = y.new_empty(most, tableau.stages, len(y)) if inside else None

        def going(state: Tensor, y: Tensor, slope: Tensor, count: Tensor) -> Tensor:
            t, h = state[:2].unbind()
            left = (count < most) & (count < numbers[7]) & (t != numbers[6])
            return left & (h.abs() > 8 * sys.float_info.epsilon * t.abs()) & (h.abs() > 1e-300)

        def body(state: Tensor, y: Tensor, slope: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            h, size = sized(state, numbers)
            y1, ks, norms = attempt(f, args, state[0], size, numbers[10:].unbind(), tolerances, y, slope, norm)
            assert norms is not None
            ratio = norms[0].to(torch.float64)
            record(sizes, count, torch.stack([h, size, ratio]))
            record(starts, count, y)
            if stages is not None:
                record(stages, count, ks)
            taken, state = judged(controller, order, state, numbers, h, size, ratio)
            return state, torch.where(taken, y1, y), torch.where(taken, ks[0], slope), count + 1

        count = torch.zeros((), dtype=torch.int64, device=y.device)
        state, y, slope, count = while_loop(going, body, (state, y.clone(), slope.clone(), count))
        return y, slope, starts, stages, torch.cat([count.to(sizes.dtype).reshape(1), state[1:2], sizes.reshape(-1)])

    return walk


def record(rows: Tensor, index: Tensor, row: Tensor) -> None:
    rows.index_copy_(0, index.reshape(1), row.unsqueeze(0))


def sized(state: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """h within its limits, and as it is cut to the end (``Control.limited``, ``Stepper.clip``)."""
    (t, wanted), (end, _, least, most) = state[:2].unbind(), numbers[6:10].unbind()
    h = torch.copysign(torch.minimum(torch.maximum(wanted.abs(), least), most), wanted)
    left = end - t
    halved = torch.where(h.abs() > 0.9 * left.abs(), left / 2, h)
    return h, torch.where(h.abs() >= left.abs() * (1 - 1e-10), left, halved)


def judged(
    controller: Controller, order: int, state: Tensor, numbers: Tensor, h: Tensor, size: Tensor, ratio: Tensor
) -> tuple[Tensor, Tensor]:
    """Whether the attempt is taken, and the state after it (``Stepper.judge``); h is NaN if the error is no number."""
    (t, _, newest, before, oldest, retried), end, least = state.unbind(), numbers[6], numbers[8]
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
