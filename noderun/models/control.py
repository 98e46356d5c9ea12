"""Controls: paths X through the observations of a series, which drive dz = f(z) dX (Kidger et al. 2020).

A path lives on a clock that all series of a batch share: its interval i, between knots i and i + 1, lasts from s = i to
s = i + 1, however long it is. A controlled equation does not depend on the clock, dz/ds = f(z) dX/ds, so that irregular
times, which differ from series to series, need one solve with common steps, and steps can end at all knots. In an
interval of padding X stands still, and with it z.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from noderun.data import DataError
from noderun.models.observations import Observations, at_rows, between, carried_forward, extended, last_before
from noderun.models.spline import natural_cubic


@dataclass(frozen=True)
class Control:
    """dX/ds = sum_n coefficients[:, i, n] u^n in interval i, with u = s - i from 0 to 1.

    ``coefficients`` are [B, K, n, C], ``start`` is X(0) [B, C], and ``rows`` [B, S] are the knots at which outputs are
    read (None: the last one).
    """

    coefficients: Tensor
    start: Tensor
    rows: Tensor | None

    def outputs(self, states: Tensor) -> Tensor:
        """Of states [B, ..., H] at knots, the last one among them, those of the outputs."""
        return states[:, -1] if self.rows is None else at_rows(states, self.rows)


def control_path(observations: Observations, interpolation: str, initial: float | None = None) -> Control:
    """The path through the observations; its coefficients are torchcde's, in units of s.

    What is missing in a channel is interpolated (linearly; by natural: by the spline through what there is), and before
    its first observation it is ``initial``, or that observation if None. If outputs are read on the way, both would
    look ahead: then, and for rectilinear paths, the observation before is carried forward.

    Raises DataError if a channel has no value to start from, or if a path that looks ahead is to give such outputs.
    """
    x, times, rows = observations.values, observations.times.unsqueeze(-1), observations.rows
    require_control(observations, interpolation, initial)
    observed = torch.ones_like(x, dtype=torch.bool) if observations.observed is None else observations.observed
    if observations.observed is not None:
        x, observed = extended(x, observed, initial)
        if rows is not None or interpolation == "rectilinear":
            x = carried_forward(x, observed)
        elif interpolation != "natural":
            x = between(x, observed, times)
    if interpolation == "rectilinear":
        rows = None if rows is None else 2 * rows
    return Control(INTERPOLATIONS[interpolation](x, times, observed), x[:, 0], rows)


def derivative(coefficients: Tensor, s: Tensor) -> Tensor:
    """dX/ds [B, C] at the time s [], or s [B, 1] if each series has its own; coefficients as in ``Control``."""
    last = coefficients.shape[1] - 1
    if s.dim() == 0 and s.device.type == "cpu":  # a number that costs nothing to read, and then views
        time = s.item()
        i = min(int(time), last)
        slope, *powers = coefficients[:, i].unbind(1)
        for n, power in enumerate(powers, 1):
            slope = torch.add(slope, power, alpha=(time - i) ** n)
        return slope
    interval = s.detach().long().clamp(max=last).view(-1)
    rows = coefficients[torch.arange(len(coefficients), device=s.device), interval]
    exponents = torch.arange(rows.shape[1], device=s.device).view(-1, 1)
    return (rows * (s.view(-1) - interval).view(-1, 1, 1) ** exponents).sum(1)


def linear(x: Tensor, times: Tensor, observed: Tensor) -> Tensor:
    return x.diff(dim=1).unsqueeze(2)


def rectilinear(x: Tensor, times: Tensor, observed: Tensor) -> Tensor:
    """Time, the first channel, moves first, then the others: two intervals for each one between observations."""
    dx = x.diff(dim=1)
    in_time, in_value = dx.clone(), dx.clone()
    in_time[..., 1:], in_value[..., :1] = 0.0, 0.0
    return torch.stack([in_time, in_value], dim=2).flatten(1, 2).unsqueeze(2)


def hermite(x: Tensor, times: Tensor, observed: Tensor) -> Tensor:
    """Cubic pieces whose slope at a knot is that of the interval before it (Morrill et al. 2021, section 3.2).

    With the slopes b = slope_(i-1) and dx = slope_i, both times the interval's length, the piece is the cubic from 0 to
    dx with these slopes at its ends; dX/ds = b + (dx - b) (4 u - 3 u^2).
    """
    dx, dt = x.diff(dim=1), times.diff(dim=1)
    moved = last_before(dt > 0).expand_as(dx)
    slope = torch.where(dt > 0, dx / dt, 0.0).gather(1, moved)  # an interval of no length has that of the one before it
    b = torch.cat([slope[:, :1], slope[:, :-1]], dim=1) * dt
    return torch.stack([b, 4 * (dx - b), -3 * (dx - b)], dim=2)


Interpolation = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x [B, N, C], times [B, N, 1], observed) -> coefficients
INTERPOLATIONS: dict[str, Interpolation] = {
    "hermite": hermite,
    "linear": linear,
    "rectilinear": rectilinear,
    "natural": natural_cubic,
}
AHEAD = ("natural",)  # a change of the last observation changes them everywhere


def require_control(observations: Observations, interpolation: str, initial: float | None) -> None:
    """Raise DataError if the observations have no such path."""
    x, observed, on_the_way = observations.values, observations.observed, observations.rows is not None
    if x.shape[1] < 2:
        raise DataError("a control needs series of two observations or more")
    if on_the_way and interpolation in AHEAD:
        causal = [name for name in INTERPOLATIONS if name not in AHEAD]
        raise DataError(
            f"interpolation={interpolation} looks ahead: outputs on the way would depend on what is observed after "
            f"them; take {', '.join(causal[:-1])} or {causal[-1]}"
        )
    if observed is None or initial is not None:
        return
    lacking = ~(observed[:, 0] if on_the_way else observed.any(1))
    if lacking.any():
        row, channel = (int(each) for each in lacking.nonzero()[0])
        raise DataError(
            f"series {row} has no observation of channel {channel}{' at its first time' if on_the_way else ''}, so its "
            "control cannot start: leave one of them out, or give the value that stands in for it, for instance "
            "initial=0"
        )
