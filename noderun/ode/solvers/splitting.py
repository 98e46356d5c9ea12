"""Symplectic steps for a separable Hamiltonian: kicks of p by dp(t, q) and drifts of q by dq(t, p) in turn.

Hairer, Lubich, Wanner, Geometric Numerical Integration, I.1 and II.5. The state is a pair (q, p) of equal sizes and f
returns (dq, dp); a kick and a drift each call the whole f and use half of what it returns, and NFE counts such calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from noderun.ode.solvers.extrapolation import at, extrapolated_times
from noderun.ode.solvers.field import Field
from noderun.ode.solvers.method import Info, Method, Snapshot, Step
from noderun.ode.solvers.times import stage_times


class Kick:
    """``dp`` [N / 2] at the current (t, q), as the step before has left it."""

    def __init__(self) -> None:
        self.recording = torch.is_grad_enabled()
        self.dp: Tensor | None = None
        self.ahead: Tensor | None = None  # at the end of the current step
        self.checked = False  # whether the state was seen to be a pair


class Splitting(Method[Kick]):
    """kicks[0], drifts[0], kicks[1], ... are the parts of h in turn; equally many of each, and the last may be 0."""

    multistep = True  # dp of the last kick is the first of the next step

    def __init__(
        self, name: str, order: int, kicks: Sequence[float], drifts: Sequence[float], source: str, description: str
    ) -> None:
        self.name, self.order, self.error_order = name, order, order
        self.kicks, self.drifts = tuple(kicks), tuple(drifts)
        self.info = Info(order, symplectic=True, source=source, description=description)

    def start(self, y: Tensor) -> Kick:
        return Kick()

    def derivative(self, field: Field, t: float, y: Tensor, work: Kick) -> Tensor:
        return field(stage_times(t, 0.0, (0.0,), y, field.bounds)[0], y)

    def step(self, field: Field, t: float, y: Tensor, h: float, work: Kick, estimate: bool) -> Step:
        self.require_pair(field, work)
        q, p = y.chunk(2)
        # A kick's time is as far as the drifts have come, and the other way round.
        drifted = [sum(self.drifts[:i]) for i in range(len(self.drifts))]
        kicked = [sum(self.kicks[: i + 1]) for i in range(len(self.kicks))]
        times = extrapolated_times(t, h, [*drifted, *kicked], y, field.bounds)
        stages = zip(self.kicks, self.drifts, times[: len(drifted)], times[len(drifted) :], strict=True)
        work.ahead = None
        for i, (kick, drift, at_kick, at_drift) in enumerate(stages):
            dp = work.dp if i == 0 and work.dp is not None else at(field, at_kick, torch.cat([q, p])).chunk(2)[1]
            p = torch.add(p, dp, alpha=h * kick)
            if drift == 0:  # the last kick was at the step's end
                work.ahead = dp
            else:
                q = torch.add(q, at(field, at_drift, torch.cat([q, p])).chunk(2)[0], alpha=h * drift)
        y1 = torch.cat([q, p])
        return Step(t, h, y, y1, None, lambda thetas: self.hermite(field, t, y, h, y1, thetas))

    def hermite(self, field: Field, t: float, y: Tensor, h: float, y1: Tensor, thetas: Sequence[float]) -> Tensor:
        """The cubic through both ends, two calls of f; HNW I, (II.6.7)."""
        start, end = stage_times(t, h, (0.0, 1.0), y, field.bounds)
        f0, f1 = field(start, y), field(end, y1)
        values = []
        for x in thetas:
            turn = torch.add((1 - 2 * x) * (y1 - y), f0, alpha=h * (x - 1)).add(f1, alpha=h * x)
            values.append((1 - x) * y + x * y1 + x * (x - 1) * turn)
        return torch.stack(values)

    def require_pair(self, field: Field, work: Kick) -> None:
        if work.checked:
            return
        layout = getattr(field, "layout", None)
        if layout is None or layout.single or len(layout.sizes) != 2 or layout.sizes[0] != layout.sizes[1]:
            raise ValueError(f"solver '{self.name}' integrates a state (q, p), two tensors of one size, f -> (dq, dp)")
        work.checked = True

    def snapshot(self, work: Kick) -> Snapshot:
        return ([] if work.dp is None else [work.dp]), None

    def restore(self, y: Tensor, snapshot: Snapshot, newton_stages: Sequence[Tensor] = ()) -> Kick:
        work = self.start(y)
        if snapshot is not None and snapshot[0]:
            work.dp = snapshot[0][0]
        return work

    def accept(self, work: Kick) -> None:
        work.dp = work.ahead

    def restart(self, work: Kick) -> None:
        work.dp = None
