"""Linear multistep methods on any grid: y1 = y + integral of the polynomial through earlier values of f.

The weights follow from the times alone (Newton's form, Hairer, Norsett, Wanner, Solving ODEs I, III.5) and are made on
the host, so unequal steps need no other formula; on equal ones they are the classical coefficients of Adams.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from noderun.ode.solvers.field import Field, Integrand
from noderun.ode.solvers.method import Info, Method, Quadrature, Snapshot, Step
from noderun.ode.solvers.stages import WeightedSum
from noderun.ode.solvers.times import stage_times
from noderun.ode.solvers.torch_internals import under_transform

# Gauss and Legendre's nodes and weights on (0, 1): exact to degree 13, that of the longest formula here.
GAUSS = (
    (0.025446043828620738, 0.06474248308443485),
    (0.12923440720030278, 0.13985269574463833),
    (0.2970774243113014, 0.19091502525255948),
    (0.5, 0.20897959183673469),
    (0.7029225756886985, 0.19091502525255948),
    (0.8707655927996972, 0.13985269574463833),
    (0.9745539561713792, 0.06474248308443485),
)


def increments(nodes: Sequence[float], end: float = 1.0) -> list[list[float]]:
    """Row m: weights of f(nodes[0..m]) by which node m changes the integral over (0, end) of the interpolant.

    That is the integral of prod_(i<m) (s - nodes[i]) times the divided difference f[nodes[0], ..., nodes[m]]; the sum
    of the first m rows integrates the interpolant through m nodes.
    """
    products = [weight * end for _, weight in GAUSS]
    divided: list[float] = []
    rows = []
    for m, node in enumerate(nodes):
        differences = [node - other for other in nodes[:m]]
        divided = [d / -difference for d, difference in zip(divided, differences, strict=True)]
        last = 1.0
        for difference in differences:
            last /= difference
        divided.append(last)
        integral = sum(products)
        rows.append([integral * d for d in divided])
        products = [p * (end * x - node) for p, (x, _) in zip(products, GAUSS, strict=True)]
    return rows


def weights(nodes: Sequence[float], end: float = 1.0) -> list[float]:
    """The weights of f(nodes) in the integral over (0, end) of the interpolant through all of them."""
    rows = increments(nodes, end)
    return [sum(row[j] for row in rows[j:]) for j in range(len(nodes))]


Point = tuple[Tensor, Integrand | None]  # f and its integrand of integrals beside the state


class History:
    """f at the accepted points, newest first; ``known`` says whether the first is f at the current state."""

    def __init__(self, order: int) -> None:
        self.recording = torch.is_grad_enabled() or under_transform()
        self.first_order = order
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.times: list[float] = []
        self.slopes: list[Tensor] = []
        self.integrands: list[Integrand | None] = []
        self.known = False
        self.order = self.next_order = self.first_order  # the next one from the next accepted step on
        self.estimates: list[float] = []  # error ratios at the orders at, below and above

    def push(self, t: float, slope: Tensor, integrand: Integrand | None) -> None:
        self.times.insert(0, t)
        self.slopes.insert(0, slope)
        self.integrands.insert(0, integrand)
        self.known = True

    def cut(self, length: int) -> None:
        del self.times[length:], self.slopes[length:], self.integrands[length:]

    def nodes(self, t: float, h: float, count: int) -> list[float]:
        """The latest ``count`` times in units of the step from t, 0 first."""
        return [(time - t) / h for time in self.times[:count]]


def combine(y: Tensor, slopes: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
    """y + sum_j factors_j slopes_j [N], the same bits whether autograd records or not."""
    w = torch.tensor([*factors, 1.0], dtype=y.dtype).to(y.device, non_blocking=True)
    if under_transform():
        return torch.einsum("s,s...->...", w, torch.stack([*slopes, y]))
    columns = torch.stack([x.detach() for x in (*slopes, y)]).t()
    return WeightedSum.apply(columns, w, *slopes, y) if torch.is_grad_enabled() else torch.mv(columns, w)


class Multistep(Method[History]):
    """The history of f, and the polynomial step; ``reach`` is how many past values a step uses besides f_n."""

    multistep = True
    reach: int

    def __init__(self, name: str, order: int | None, adaptive: bool, source: str, description: str) -> None:
        self.name, self.order, self.error_order = name, order or 1, 1
        self.info = Info(order, adaptive, fixed_step=not adaptive, source=source, description=description)

    def start(self, y: Tensor) -> History:
        return History(self.order)

    def derivative(self, field: Field, t: float, y: Tensor, work: History) -> Tensor:
        if not work.known:
            slope = field(stage_times(t, 0.0, (0.0,), y, field.bounds)[0], y)
            work.push(t, slope, field.integrand)
        return work.slopes[0]

    def polynomial(self, t: float, h: float, y: Tensor, y1: Tensor, nodes: list[float], points: list[Point]) -> Step:
        """The step whose solution is y plus the integral of the interpolant through ``points`` at ``nodes``."""
        slopes = [slope for slope, _ in points]

        def interpolate(thetas: Sequence[float]) -> Tensor:
            return torch.stack([combine(y, slopes, [h * w for w in weights(nodes, theta)]) for theta in thetas])

        # The last node's share in the integral is what the formula through one point less would leave out.
        integrands = [integrand for _, integrand in points]
        quadrature = Quadrature.of(integrands, weights(nodes), increments(nodes)[-1], h)
        return Step(t, h, y, y1, None, interpolate, quadrature)

    def snapshot(self, work: History) -> Snapshot:
        """f of the past; f at the current state is left out, it is a function of y."""
        past = 1 if work.known else 0
        return work.slopes[past:], (work.times[past:], work.order)

    def restore(self, y: Tensor, snapshot: Snapshot, newton_stages: Sequence[Tensor] = ()) -> History:
        work = self.start(y)
        if snapshot is not None:
            slopes, (times, work.order) = snapshot
            work.slopes, work.times, work.integrands = list(slopes), list(times), [None] * len(times)
            work.next_order = work.order
        return work

    def accept(self, work: History) -> None:
        work.cut(self.reach)
        work.known = False
        work.order = work.next_order

    def restart(self, work: History) -> None:
        work.forget()
