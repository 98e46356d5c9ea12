"""The natural cubic spline through a series whose channels are observed at different times."""

from __future__ import annotations

import torch
from torch import Tensor


def natural_cubic(x: Tensor, times: Tensor, observed: Tensor) -> Tensor:
    """Coefficients [B, N - 1, 3, C] of dX/du in the intervals between all knots, u from 0 to 1.

    x and observed are [B, N, C], times [B, N, 1]. A channel's spline passes through what was observed of it; its ends
    must be. Intervals of no length, as in padding, have the derivative 0.
    """
    order = (~observed).long().argsort(dim=1, stable=True)  # what was observed comes first
    count = observed.sum(1, keepdim=True)
    numbers = torch.arange(x.shape[1], device=x.device).view(-1, 1)
    chosen = order.gather(1, torch.minimum(numbers, count - 1))  # and then the last of it, again and again
    all_times = times.expand_as(x)
    tau, y = all_times.gather(1, chosen), x.gather(1, chosen)
    h = tau.diff(dim=1)
    slope = torch.where(h > 0, y.diff(dim=1) / h, 0.0)
    m = second_derivatives(h, slope)
    # dX/dt = b + 2c (t - tau) + 3d (t - tau)^2 between two observations
    b, two_c = slope - h * (2 * m[:, :-1] + m[:, 1:]) / 6, m[:, :-1]
    three_d = torch.where(h > 0, m.diff(dim=1) / (2 * h), 0.0)
    piece = (observed.cumsum(1) - 1)[:, :-1].clamp(max=max(x.shape[1] - 2, 0))
    b, two_c, three_d, start = (each.gather(1, piece) for each in (b, two_c, three_d, tau))
    offset, dt = all_times[:, :-1] - start, times.diff(dim=1)
    at_knot = b + offset * (two_c + offset * three_d)
    return torch.stack([at_knot * dt, (two_c + 2 * offset * three_d) * dt**2, three_d * dt**3], dim=2)


def second_derivatives(h: Tensor, slope: Tensor) -> Tensor:
    """X'' at the knots [B, N, C], 0 at both ends, from the intervals' lengths and slopes [B, N - 1, C].

    h_(i-1) m_(i-1) + 2 (h_(i-1) + h_i) m_i + h_i m_(i+1) = 6 (slope_i - slope_(i-1)) by elimination; a knot beside an
    interval of no length is an end.
    """
    left, right = h[:, :-1], h[:, 1:]
    inside = (left > 0) & (right > 0)
    below, above = torch.where(inside, left, 0.0), torch.where(inside, right, 0.0)
    diagonal = torch.where(inside, 2 * (left + right), 1.0)
    target = torch.where(inside, 6 * slope.diff(dim=1), 0.0)
    ratio = torch.zeros_like(h[:, 0])
    reduced, ratios = [torch.zeros_like(ratio)], [ratio]
    for i in range(inside.shape[1]):
        pivot = diagonal[:, i] - below[:, i] * ratios[-1]
        reduced.append((target[:, i] - below[:, i] * reduced[-1]) / pivot)
        ratios.append(above[:, i] / pivot)
    found = [torch.zeros_like(ratio)]
    for value, ratio in zip(reversed(reduced[1:]), reversed(ratios[1:]), strict=True):
        found.append(value - ratio * found[-1])
    return torch.stack([*found, torch.zeros_like(ratio)][::-1], dim=1)
