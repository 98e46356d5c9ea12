"""The hidden state of a recurrent net between observations: an ODE over a gap of each example's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from noderun.models.block import SolveBlock
from noderun.ode.configured import ConfiguredSolve


class ScaledByGap(nn.Module):
    """d(h, gap)/ds = (gap f(h), 0), so that s from 0 to 1 takes every example over its own gap."""

    def __init__(self, field: nn.Module) -> None:
        super().__init__()
        self.field = field

    def forward(self, s: Tensor, state: Tensor) -> Tensor:
        h, gap = state[:, :-1], state[:, -1:]
        return torch.cat([gap * self.field(s, h), torch.zeros_like(gap)], dim=1)


class GapBlock(SolveBlock):
    """``begin(gaps [B, T])``, then ``over(h, gap)`` for each of the T: h [B, hidden] after gaps [B] of any sign.

    ``stats`` are those of all gaps since ``begin``; observers see the solve over the gap that is longest on average.
    With ``steps`` above 0 a gap is that many Euler steps, as in the code of Rubanova et al. (2019); with 0 it is a
    solve as configured.
    """

    def __init__(self, field: nn.Module, solve: ConfiguredSolve, steps: int) -> None:
        super().__init__(ScaledByGap(field), with_euler_steps(solve, steps) if steps else solve)
        self.parts: list[Any] = []
        self.longest = 0

    def begin(self, gaps: Tensor) -> None:
        self.parts, self.longest = [], int(gaps.abs().mean(0).argmax())

    def over(self, h: Tensor, gap: Tensor) -> Tensor:
        start, ts = torch.cat([h, gap.unsqueeze(1)], dim=1), [0.0, 1.0]
        observed = len(self.parts) == self.longest
        solution = self(start, ts) if observed else self.solve(self.dynamics, start, ts)
        self.parts.append(solution.stats)
        self.stats = TotalStatistics(self.parts)
        ys: Tensor = solution.ys
        return ys[-1, :, :-1]


def with_euler_steps(solve: ConfiguredSolve, steps: int) -> ConfiguredSolve:
    adaptive = ("solver_options", "compile", "rtol", "atol", "controller", "norm", "first_step", "min_step", "max_step")
    return replace(solve, solver="euler", dt=1 / steps, **dict.fromkeys(adaptive))


class TotalStatistics:
    """The sums of the counts of several solves; None where one of them has none."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = parts

    def __getattr__(self, name: str) -> Any:
        counts = [getattr(part, name) for part in self.parts]
        return None if any(count is None for count in counts) else sum(counts)
