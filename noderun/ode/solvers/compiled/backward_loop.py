"""Many steps pulled back in one graph, last to first: each is replayed and transposed, dL/dtheta summed inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vjp

from noderun.ode.solvers.compiled.traced import MAX_NUMBERS, MAX_STEPS_PER_CALL, Function, Loop, attempt
from noderun.ode.solvers.device_control import tolerances
from noderun.ode.solvers.graphed import PulledBack
from noderun.ode.solvers.tableau import ButcherTableau


def steps_per_call(tableau: ButcherTableau, size: int, inside: bool) -> int:
    """The number of steps of a state [size] that one call pulls back; 0 if outputs inside need their own stages."""
    if inside and (tableau.dense_a or len(tableau.dense) != tableau.stages):
        return 0
    given = size * (tableau.stages + 3) if inside else size
    return max(1, min(MAX_STEPS_PER_CALL, MAX_NUMBERS // max(given, 1)))


def make_backward_loop(tableau: ButcherTableau, function: Function, loop: Loop) -> Callable[..., PulledBack]:
    """``numbers``: the number of steps, t and h of each of the K that there is room for, rtol and atol.

    ``starts`` [K, N] are the states that the steps start from, ``a`` [N] is dL/dy at the end of the last. If outputs
    were read off the steps, ``cotangents`` [K, s + 2, N] are those of each step's k_(s-1), ..., k_0, y and y1.
    """

    def pull_back(
        f: nn.Module,
        args: tuple[Any, ...],
        numbers: Tensor,
        given: list[Tensor | None],
        starts: Tensor,
        a: Tensor,
        cotangents: Tensor | None,
        names: tuple[str, ...],
        params: tuple[Tensor, ...],
    ) -> PulledBack:
        def going(left: Tensor, a: Tensor, *param_grads: Tensor) -> Tensor:
            return left > 0

        def body(left: Tensor, a: Tensor, *param_grads: Tensor) -> tuple[Tensor, ...]:
            index = (left - 1).reshape(1)
            t, h = numbers[1:-2].reshape(-1, 2).index_select(0, index)[0].unbind()

            def step(y: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
                derivative, within = function(f, args, names, values), tolerances(numbers, given)
                y1, ks, *_ = attempt(tableau, derivative, t, h, within, y, None, None, cotangents is not None)
                return (y1,) if cotangents is None else (y1, torch.stack(ks[::-1]), y)

            pull = vjp(step, starts.index_select(0, index)[0], *params)[1]
            if cotangents is None:
                a, *more = pull((a,))
            else:
                own = cotangents.index_select(0, index)[0]
                a, *more = pull((a + own[-1], own[:-2], own[-2]))
            return left - 1, a, *(total + one for total, one in zip(param_grads, more, strict=True))

        zeros = (torch.zeros_like(p) for p in params)
        _, a, *param_grads = loop(going, body, (numbers[0].to(torch.int64), a.clone(), *zeros))
        return a, *param_grads

    return pull_back
