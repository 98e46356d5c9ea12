"""A round of samples with steps of their own, made again and pulled back on the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.captured.capture import Capture
from noderun.ode.solvers.per_sample.methods import batched_method
from noderun.ode.solvers.per_sample.problem import RoundRecord, SampleProblem
from noderun.ode.solvers.per_sample.step import StepStart, dense_weights
from noderun.ode.solvers.torch_internals import add_to_each


class SamplePull:
    """Steps from (t [B], y [B, N]) by h [B], 0 for a sample that made none.

    ``a`` [B, N] is dL/dy at their ends and becomes that at their starts, ``param_grads`` grow by their dL/dtheta.
    ``cotangents`` [n + 1, B, N] are those of y and of u_i = h k_i from outputs inside the steps; n is 0 without these.
    """

    def __init__(self, problem: SampleProblem, params: tuple[Tensor, ...], n: int, pool: Any) -> None:
        self.problem, self.params, self.n = problem, params, n
        self.formula = batched_method(problem.method, problem.control, problem.y0)
        self.field = problem.field.of(None)
        self.a, self.y = torch.zeros_like(problem.y0), torch.zeros_like(problem.y0)
        self.cotangents = self.a.new_zeros(n + 1, *self.a.shape)
        self.t, self.h = (torch.zeros(len(self.a), dtype=torch.float64, device=self.a.device) for _ in range(2))
        self.param_grads = [torch.zeros_like(p) for p in params]
        self.calls = 0  # of f, in a round
        self.replays = {"pull": Capture(self.pull, self.rest, self.a.device, pool)}

    def rest(self) -> None:
        self.h.zero_()

    def go_back(self, record: RoundRecord, a: Tensor, rows_grad: Tensor, nfe: Tensor) -> Tensor:
        """dL/dy [B, N] at the starts of a round from that at its ends and that of the rows; counts calls of f."""
        self.t.copy_(record.t)
        self.h.copy_(record.h)
        self.y.copy_(record.y)
        self.a.copy_(a)
        if self.n:
            self.cotangents.zero_()
        for read in record.reads:
            given, whole = rows_grad[read.first : read.first + len(read.place)], (read.theta == 1).unsqueeze(1)
            self.a.index_add_(0, read.place, torch.where(whole, given, 0.0) if read.inside else given)
            if read.inside:
                weights = torch.cat(
                    [torch.ones_like(read.theta).unsqueeze(0), dense_weights(self.formula.dense, read.theta)]
                )
                shares = weights.to(given.dtype).unsqueeze(2) * torch.where(whole, 0.0, given)
                self.cotangents.index_add_(1, read.place, shares)
        self.replays["pull"]()
        nfe += self.calls * (record.h != 0)
        return self.a

    def pull(self) -> None:
        """The transpose of the steps."""
        with torch.enable_grad():
            y = self.y.detach().requires_grad_()
            step = self.formula.replay(StepStart(self.field, self.t, y, self.h), ())
            if self.n:
                step.increments()
        self.calls = step.calls
        ends, given = [step.y1, *step.us[: self.n]], [self.a, *self.cotangents[1:].unbind()]
        used = [pair for pair in zip(ends, given, strict=True) if pair[0].requires_grad]
        ys, cotangents = [end for end, _ in used], [cotangent for _, cotangent in used]
        by_y, *by_params = torch.autograd.grad(ys, (y, *self.params), cotangents, allow_unused=True)
        assert by_y is not None
        self.a.copy_(by_y + self.cotangents[0] if self.n else by_y)
        found = [(total, g) for total, g in zip(self.param_grads, by_params, strict=True) if g is not None]
        if found:
            add_to_each([total for total, _ in found], [g for _, g in found])
