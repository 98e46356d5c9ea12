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

from noderun.data import DataError, Dataset
from noderun.models.spline import natural_cubic
from noderun.models.timeline import Timeline, timeline

ROWS = 1000  # of a data set that are checked at a time


@dataclass(frozen=True, eq=False)
class Control:
    """dX/ds = sum_n coefficients[:, i, n] u^n in interval i, with u = s - i from 0 to 1.

    ``coefficients`` are [B, K, n, C], ``start`` is X(0) [B, C], and ``asked`` [B, S] are the knots at which outputs are
    read (None: the last one).
    """

    coefficients: Tensor
    start: Tensor
    asked: Tensor | None

    @property
    def increments(self) -> Tensor:
        """X(i + 1) - X(i) [B, K, C]."""
        exponents = torch.arange(self.coefficients.shape[2], device=self.coefficients.device)
        return (self.coefficients / (exponents + 1).unsqueeze(1)).sum(2)

    def outputs(self, states: Tensor) -> Tensor:
        """Of states [B, ..., H] at knots, the last one among them, those of the outputs: [B, S, H] or [B, H]."""
        if self.asked is None:
            return states[:, -1]
        return states.gather(1, self.asked.unsqueeze(-1).expand(-1, -1, states.shape[2]))


@dataclass(frozen=True)
class ControlPath:
    """Makes the control of a batch of series; its coefficients are torchcde's, in units of s.

    ``time`` puts the time before the channels. What is missing in a channel is interpolated (linearly; by natural: by
    the spline through what there is), and before its first observation it is ``initial``, or that observation if None.
    If outputs are read on the way, both would look ahead: then, and for rectilinear paths, the observation before is
    carried forward.

    Raises DataError if a channel has no value to start from, or if a path that looks ahead is to give such outputs.
    """

    interpolation: str = "hermite"
    initial: float | None = None
    time: bool = True

    def __call__(self, inputs: Tensor, times: Tensor, mask: Tensor | None, target_times: Tensor | None) -> Control:
        """Of inputs [B, T, D], times [B, T], mask [B, T] or [B, T, D] and target_times [B, S]."""
        on_the_way = target_times is not None
        line = timeline(inputs, times, mask, target_times)
        self.check(line, on_the_way)
        t = (line.times if on_the_way else held_after(line.times, line.asked)).to(inputs).unsqueeze(-1)
        x, observed = extended(line.values, line.mask > 0, self.initial)
        if on_the_way or self.interpolation == "rectilinear":
            x = carried_forward(x, observed)
        elif mask is not None and self.interpolation != "natural":
            x = between(x, observed, t)
        if self.time:
            x, observed = torch.cat([t, x], dim=2), torch.cat([torch.ones_like(t, dtype=torch.bool), observed], dim=2)
        asked = line.asked * (2 if self.interpolation == "rectilinear" else 1) if on_the_way else None
        return Control(INTERPOLATIONS[self.interpolation](x, t, observed), x[:, 0], asked)

    def prepare_for(self, dataset: Dataset) -> None:
        """Raise DataError if a series of the set has no such path."""
        for split, rows in (("train", dataset.train), ("test", dataset.test)):
            for start in range(0, len(rows), ROWS):
                part = rows.rows(slice(start, start + ROWS))
                assert part.times is not None
                try:
                    line = timeline(part.inputs, part.times, part.mask, part.target_times)
                    self.check(line, part.target_times is not None, start)
                except DataError as error:
                    raise DataError(f"{dataset.name}, {split}: {error}") from None

    def check(self, line: Timeline, on_the_way: bool, first: int = 0) -> None:
        """Raise DataError if the series, of which the first has the number ``first``, have no such path."""
        if line.times.shape[1] < 2:
            raise DataError("a control needs series of two observations or more")
        if on_the_way and self.interpolation in LOOKS_AHEAD:
            causal = [name for name in INTERPOLATIONS if name not in LOOKS_AHEAD]
            raise DataError(
                f"interpolation={self.interpolation} looks ahead: outputs on the way would depend on what is observed "
                f"after them; take {', '.join(causal[:-1])} or {causal[-1]}"
            )
        lacking = (line.mask[:, 0] if on_the_way else line.mask.amax(1)) == 0
        if self.initial is None and lacking.any():
            row, channel = (int(each) for each in lacking.nonzero()[0])
            what = "first value" if on_the_way else "observation"
            raise DataError(
                f"channel {channel} of series {first + row} has no {what}, so its control cannot start: leave one of "
                "them out, or give the value that stands in for it, for instance model.initial=0"
            )


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
LOOKS_AHEAD = ("natural",)  # a change of the last observation changes the path everywhere


def held_after(times: Tensor, last: Tensor) -> Tensor:
    """Times [B, N] that stand still from the place ``last`` [B, 1] on, behind which is padding."""
    place = torch.arange(times.shape[1], device=times.device)
    return torch.where(place > last, times.gather(1, last), times)


def extended(x: Tensor, observed: Tensor, initial: float | None) -> tuple[Tensor, Tensor]:
    """Values and flags with both ends of each channel filled in.

    Before its first observation it is ``initial``, or that observation if None; after its last one it stays.
    """
    numbers = torch.arange(x.shape[1], device=x.device).view(-1, 1)
    first = torch.where(observed, numbers, x.shape[1] - 1).amin(1, keepdim=True)
    last = torch.where(observed, numbers, 0).amax(1, keepdim=True)
    start = x.gather(1, first) if initial is None else x.new_tensor(initial)
    before, after = numbers < first, numbers > last
    if initial is not None:  # also of a channel that has no observation
        before = before | ~observed.any(1, keepdim=True)
    x = torch.where(before, start, torch.where(after, x.gather(1, last), x))
    return x, observed | before | after


def carried_forward(x: Tensor, observed: Tensor) -> Tensor:
    """x [B, N, D] where each missing value is the last one before it."""
    return x.gather(1, last_before(observed))


def between(x: Tensor, observed: Tensor, times: Tensor) -> Tensor:
    """x [B, N, D] where missing values lie on the line between their neighbors in time [B, N, 1]."""
    earlier = last_before(observed)
    later = x.shape[1] - 1 - last_before(observed.flip(1)).flip(1)
    t, x0, x1 = times.expand_as(x), x.gather(1, earlier), x.gather(1, later)
    t0, t1 = t.gather(1, earlier), t.gather(1, later)
    share = torch.where(t1 > t0, (t - t0) / (t1 - t0), 0.0)
    return x0 + share * (x1 - x0)


def last_before(observed: Tensor) -> Tensor:
    """int64 [B, N, D]: the number of the last knot up to each that was observed, 0 if there is none."""
    numbers = torch.arange(observed.shape[1], device=observed.device).view(-1, 1)
    return torch.where(observed, numbers, 0).cummax(1).values
