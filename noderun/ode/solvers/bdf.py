"""Backward differentiation of orders 1 to 5 with a quasi-constant step, in the NDF form of ode15s.

Shampine, Reichelt 1997, SIAM J. Sci. Comput. 18(1), section 2: the history is the backward differences D_j of y at the
current h; another h means a linear map of them, and order and h change together, every k + 1 steps at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.field import Field
from noderun.ode.solvers.implicit import ImplicitMethod, Work, steady
from noderun.ode.solvers.method import Snapshot, Step
from noderun.ode.solvers.step_size import LEAST_RATIO
from noderun.ode.solvers.times import stage_times

LARGEST = 5
KAPPA = (0.0, -0.1850, -1 / 9, -0.0823, -0.0415, 0.0)  # per order; table 1
GAMMA = tuple(sum(1 / j for j in range(1, k + 1)) for k in range(LARGEST + 1))
ALPHA = tuple((1 - kappa) * gamma for kappa, gamma in zip(KAPPA, GAMMA, strict=True))
ERROR = tuple(kappa * gamma + 1 / (k + 1) for k, (kappa, gamma) in enumerate(zip(KAPPA, GAMMA, strict=True)))


@dataclass
class Attempt:
    """What the history becomes if the current step is accepted."""

    h: float
    order: int  # of the next step
    equal: int  # steps made with this h and order
    differences: Tensor  # [8, N]


class History(Work):
    """``differences`` D_0..D_7 [8, N] at step size ``h``, of which the first order + 1 predict y."""

    def __init__(self, y: Tensor) -> None:
        super().__init__(y)
        self.differences: Tensor | None = None
        self.h, self.order, self.equal = 0.0, 1, 0
        self.attempt: Attempt | None = None


class BackwardDifferentiation(ImplicitMethod[History]):
    """y1 - sum_j gamma_j/alpha_k D_j terms = h/alpha_k f(t1, y1), predicted by the sum of the D_j."""

    multistep = True

    def __init__(self) -> None:
        super().__init__(
            "bdf",
            LARGEST,
            1,
            source="Shampine, Reichelt 1997; Hairer, Wanner, Solving ODEs II, V.1",
            description="variable order 1 to 5 and step: one Newton system of the state's size per step",
        )
        self.info = replace(self.info, order=None, fixed_step=False)

    def start(self, y: Tensor) -> History:
        return History(y)

    def attempt(self, field: Field, t: float, y: Tensor, h: float, work: History, estimate: bool) -> Step:
        k, old = work.order, self.history(field, t, y, h, work)
        predicted = old[: k + 1].sum(0)
        known = torch.tensor(GAMMA[1 : k + 1], dtype=y.dtype, device=y.device) @ old[1 : k + 1] / ALPHA[k]
        base, weights = predicted - known, ((h / ALPHA[k],),)
        times = stage_times(t, h, (1.0,), y, field.bounds)
        z = work.solve(field, self.control, times[0], predicted, times, base, weights, known.unsqueeze(0))
        change = z[0] - known  # the difference of order k + 1
        new = updated(old, change, k)
        work.attempt = Attempt(h, k, 1 + (work.equal if h == work.h else 0), new)

        def interpolate(thetas: Sequence[float]) -> Tensor:
            weights = torch.tensor([backward(theta - 1, k) for theta in thetas], dtype=y.dtype)
            return weights.to(y.device) @ new[: k + 1]

        return Step(t, h, y, base + z[0], ERROR[k] * change.detach(), interpolate)

    def history(self, field: Field, t: float, y: Tensor, h: float, work: History) -> Tensor:
        """The differences [8, N] at step size h, with y as the first."""
        if work.differences is None:
            rest = y.new_zeros(LARGEST + 1, y.numel())
            return torch.cat((y.unsqueeze(0), h * self.slope(field, t, y, work).unsqueeze(0), rest))
        k, rows = work.order, work.differences
        if h != work.h:
            scaling = torch.tensor(rescaling(k, h / work.h), dtype=y.dtype, device=y.device)
            rows = torch.cat((scaling @ rows[: k + 1], rows[k + 1 :]))
        return torch.cat((y.unsqueeze(0), rows[1:]))

    def factor(self, work: History, control: StepOptions, errors: tuple[float, float, float], retried: bool) -> float:
        """The factor on h; an accepted step also chooses the next order, that of the largest step; section 2.4."""
        assert work.attempt is not None and work.solver is not None
        k, limit = work.order, work.solver.limit
        safety = control.controller.safety * (2 * limit + 1) / (2 * limit + work.solver.iterations)
        low, high = control.controller.min_factor, control.controller.max_factor
        if errors[0] > 1:
            return max(low, safety * errors[0] ** (-1 / (k + 1)))
        if work.attempt.equal <= k:
            return 1.0
        gains = {k: gain(errors[0], k), **self.neighbors(work.attempt.differences, k, control)}
        best = max(gains, key=lambda order: gains[order])
        factor = steady(min(high, max(low, safety * gains[best])))
        work.attempt.order, work.attempt.equal = best, 0
        return factor

    def neighbors(self, rows: Tensor, k: int, control: StepOptions) -> dict[int, float]:
        """The factors that the orders k - 1 and k + 1 would allow."""
        orders = [order for order in (k - 1, k + 1) if 1 <= order <= LARGEST]
        rows = rows.detach()
        errors = torch.stack([ERROR[order] * rows[order + 1] for order in orders])
        ratios = control.ratios(errors, rows[0], rows[0])
        return {order: gain(ratio, order) for order, ratio in zip(orders, ratios, strict=True)}

    def snapshot(self, work: History) -> Snapshot:
        tensors = [] if work.differences is None else [work.differences[1:]]
        return tensors, (work.h, work.order, work.equal)

    def restore(self, y: Tensor, snapshot: Snapshot, newton_stages: Sequence[Tensor] = ()) -> History:
        work = super().restore(y, snapshot, newton_stages)
        if snapshot is not None:
            tensors, (work.h, work.order, work.equal) = snapshot
            work.differences = torch.cat((y.unsqueeze(0), tensors[0])) if tensors else None
        return work

    def accept(self, work: History) -> None:
        assert work.attempt is not None
        super().accept(work)
        last = work.attempt
        work.h, work.order, work.equal, work.differences = last.h, last.order, last.equal, last.differences

    def restart(self, work: History) -> None:
        super().restart(work)
        work.differences = work.attempt = None
        work.order, work.equal = 1, 0


def gain(ratio: float, order: int) -> float:
    """The factor on h that an error ratio at this order allows, without safety."""
    return max(ratio, LEAST_RATIO) ** (-1 / (order + 1))


def updated(rows: Tensor, change: Tensor, k: int) -> Tensor:
    """The differences [8, N] one step on, from D_(k+1) = ``change``: D_j' = D_j + D_(j+1)'."""
    tail = torch.stack((*rows[: k + 1].unbind(), change)).flip(0).cumsum(0).flip(0)
    return torch.cat((tail, (change - rows[k + 1]).unsqueeze(0), rows[k + 3 :]))


def rescaling(k: int, factor: float) -> list[list[float]]:
    """The map [k + 1, k + 1] of D_0..D_k to another step size; section 2.1."""
    changed, same = binomials(k, factor), binomials(k, 1.0)
    product = [[sum(changed[i][m] * same[m][j] for m in range(k + 1)) for j in range(k + 1)] for i in range(k + 1)]
    return [list(column) for column in zip(*product, strict=True)]


def binomials(k: int, factor: float) -> list[list[float]]:
    """Products over i of (i - 1 - factor j) / i, row i from row i - 1."""
    rows = [[1.0] * (k + 1)]
    for i in range(1, k + 1):
        rows.append([0.0, *(rows[-1][j] * (i - 1 - factor * j) / i for j in range(1, k + 1))])
    return rows


def backward(s: float, k: int) -> list[float]:
    """Weights of D_0..D_k in the polynomial through the last points, s steps from the newest."""
    weights = [1.0]
    for m in range(k):
        weights.append(weights[-1] * (s + m) / (m + 1))
    return weights


METHOD = BackwardDifferentiation()
