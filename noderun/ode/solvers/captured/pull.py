"""One step repeated and pulled back, on the device: what the backward pass of a solve replays, last step to first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.captured.capture import Capture
from noderun.ode.solvers.field import Field
from noderun.ode.solvers.graphed import MOST_ATTEMPTS
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.times import Bounds
from noderun.ode.solvers.torch_internals import add_to_each


class PullBack:
    """``moves`` [K, 2] holds t and h of the steps, of which ``left`` are still to be pulled back; y is the next start.

    ``a`` [N] is dL/dy at its end and becomes that at its start, ``param_grads`` grow by its dL/dtheta. With ``inside``,
    ``cotangents`` [n + 2, N] are those of the step's k_(n-1), ..., k_0, y and y1 from outputs that were read off it, n
    being the stages of the continuous extension.
    """

    def __init__(
        self,
        method: ExplicitRungeKutta,
        make_field: Callable[[Bounds], Field],
        y: Tensor,
        params: tuple[Tensor, ...],
        inside: bool,
        pool: Any,
    ) -> None:
        self.method, self.params = method, params
        self.moves = torch.zeros(MOST_ATTEMPTS, 2, dtype=torch.float64, device=y.device)
        self.bounds = torch.zeros(2, dtype=torch.float64, device=y.device)
        self.left = torch.ones(1, dtype=torch.int64, device=y.device)
        self.y, self.a = torch.zeros_like(y), torch.zeros_like(y)
        self.cotangents = y.new_zeros(len(method.tableau.dense) + 2, len(y)) if inside else None
        self.param_grads = [torch.zeros_like(p) for p in params]
        self.field = make_field(Bounds(self.bounds[0], self.bounds[1]))
        method.table(y)  # is made on the host
        self.replays = {"pull": Capture(self.pull, self.rest, y.device, pool)}

    def rest(self) -> None:
        self.left.fill_(MOST_ATTEMPTS)
        self.moves.zero_()

    def load(self, moves: Sequence[tuple[float, float]], bounds: Bounds, a: Tensor) -> None:
        packed = torch.tensor(moves, dtype=torch.float64)
        self.moves[: len(moves)].copy_(packed, non_blocking=True)
        self.bounds.copy_(torch.tensor(bounds[:2], dtype=torch.float64), non_blocking=True)
        self.left.fill_(len(moves))
        self.a.copy_(a)
        for total in self.param_grads:
            total.zero_()

    def pull(self) -> None:
        """The step's transpose."""
        self.left.sub_(1)
        t, h = self.moves.index_select(0, self.left)[0].unbind()
        n = len(self.method.tableau.dense)
        with torch.enable_grad():
            y = self.y.detach().requires_grad_()
            work = self.method.start(y)
            y1 = self.method.step(self.field, t, y, h, work, False).y1
            if self.cotangents is not None:
                self.method.complete(self.field, t, y, h, work, y1)
        ends, cotangents = [y1], [self.a]
        if self.cotangents is not None:
            stages = [k for k in work.graph[n - 1 :: -1] if k is not None]
            ends, cotangents = [*stages, y1], [*self.cotangents[:n].unbind(), self.a + self.cotangents[-1]]
        used = [(end, given) for end, given in zip(ends, cotangents, strict=True) if end.requires_grad]
        ys, given = [end for end, _ in used], [cotangent for _, cotangent in used]
        by_y, *by_params = torch.autograd.grad(ys, (y, *self.params), given, allow_unused=True)
        assert by_y is not None
        self.a.copy_(by_y if self.cotangents is None else by_y + self.cotangents[-2])
        found = [(total, g) for total, g in zip(self.param_grads, by_params, strict=True) if g is not None]
        if found:
            add_to_each([total for total, _ in found], [g for _, g in found])
