"""The outputs of a solve, read off its accepted steps: y at ts, at fractions of every step, and at events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from noderun.ode.solvers.method import Step
from noderun.ode.solvers.times import NEAR

ENDS = (1.0,)  # every step's end
# A polynomial of degree 8 or less, as every continuous extension here is one, is known by its values at these
# fractions of a step; Chebyshev points of the second kind keep the barycentric formula well conditioned.
NODES = tuple(float(x) for x in (1 - torch.linspace(0, torch.pi, 9, dtype=torch.float64).cos()) / 2)


@dataclass
class OutputIndex:
    """The meaning of each row of ``integrate``'s result; filled by it."""

    times: list[float] = field(default_factory=list)  # of each row
    asked: list[int] = field(default_factory=list)  # the row of each of ts
    steps: list[tuple[float, float, list[int]]] = field(default_factory=list)  # t, h and the rows at the fractions
    events: list[tuple[int, int]] = field(default_factory=list)  # which event, and the row where it happened
    stopped: bool = False  # by a terminal event, the last of events
    reached: int = 0  # rows that hold numbers

    def every_step(self) -> list[int]:
        """The rows of the start, the ends of accepted steps, the times asked for and the events, as far as reached."""
        last = self.events[-1][1] if self.stopped else self.reached - 1
        rows = {0, *self.asked, *(nodes[-1] for _, _, nodes in self.steps), *(row for _, row in self.events)}
        return sorted(row for row in rows if row <= last)

    def clear(self) -> None:
        for rows in (self.times, self.asked, self.steps, self.events):
            rows.clear()
        self.stopped = False


class OutputRecorder:
    """Collects the rows step by step."""

    def __init__(self, ts: Sequence[float], fractions: Sequence[float], y0: Tensor, index: OutputIndex) -> None:
        self.ts, self.fractions, self.y0, self.index = ts, fractions, y0, index
        index.clear()
        index.times.append(ts[0])
        index.asked.extend(0 for t in ts if t == ts[0])
        self.blocks: list[Tensor] = [y0.unsqueeze(0)]  # [n, N]
        self.count = 1
        self.sign = 1.0 if ts[-1] >= ts[0] else -1.0

    def read(
        self, step: Step, t_end: float, found: Sequence[tuple[float, int]] = (), stop: bool = False
    ) -> list[tuple[int, float]]:
        """Take what lies in (t, t_end]; returns (row, theta) of each, theta = 1 being the step's end.

        ``found`` are events as (theta, which); with ``stop`` the last of them ends the solve.
        """
        asked = self.passed(step, t_end, found[-1][0] if stop else 1.0)
        if not (asked or found or self.fractions):
            return []
        thetas = sorted({*asked, *self.fractions, *(theta for theta, _ in found)} - {0.0})
        first = self.count
        row = {theta: first + i for i, theta in enumerate(thetas)}
        times = {theta: step.t + theta * step.h for theta in thetas} | ({1.0: t_end} if 1.0 in row else {})
        start = len(self.index.asked)
        times |= {theta: self.ts[start + i] for i, theta in enumerate(asked)}
        self.collect(step, thetas)
        self.index.times.extend(times[theta] for theta in thetas)
        self.index.asked.extend(row[theta] for theta in asked)
        self.index.events.extend((which, row[theta]) for theta, which in found)
        self.index.stopped = stop
        if self.fractions:
            self.index.steps.append((step.t, step.h, [row[f] if f else first - 1 for f in self.fractions]))
        return [(row[theta], theta) for theta in thetas]

    def passed(self, step: Step, t_end: float, last: float) -> list[float]:
        """The fractions of the step, up to ``last``, at which y was asked for."""
        slack, thetas = NEAR * abs(step.h), []
        for i in range(len(self.index.asked), len(self.ts)):
            t = self.ts[i]
            if self.sign * (t_end - t) < -slack:
                break
            theta = (t - step.t) / step.h
            thetas.append(theta if theta < 1 - NEAR else 1.0)
        return [theta for theta in thetas if theta <= last]

    def collect(self, step: Step, thetas: list[float]) -> None:
        """The rows at rising ``thetas``; those inside the step come as one block."""
        at_end = thetas[-1:] == [1.0]
        inside = thetas[:-1] if at_end else thetas
        if inside:
            self.blocks.append(step.interpolate(inside))
        if at_end:
            self.blocks.append(step.y1.unsqueeze(0))
        self.count += len(thetas)

    def stacked(self) -> Tensor:
        """Every row [rows, N], and NaN in rows of their own for the times that the solve did not reach."""
        missing = self.ts[len(self.index.asked) :]
        self.index.reached = self.count
        self.index.asked.extend(range(self.count, self.count + len(missing)))
        self.index.times.extend(missing)
        if not missing:
            return torch.cat(self.blocks)
        return torch.cat([*self.blocks, torch.full_like(self.y0, torch.nan).expand(len(missing), -1)])
