"""The cases of lab=gradient, in float64: two linear equations, a trained field and an ODE-Net on digits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noderun.data import batches
from noderun.data.digits import digits as load_digits
from noderun.dynamics.conv import Conv
from noderun.dynamics.mlp import MLP
from noderun.models import ODEBlock
from noderun.models.odenet import ODENet
from noderun.ode.configured import ConfiguredSolve
from noderun.ode.engine import solve

TRAINING = 400  # steps, about two seconds
CONTRACTION = 3.0  # mu of the van der Pol field that is learned: its limit cycle draws in all that is near


@dataclass(frozen=True)
class Case:
    """L(y(t1)) of y' = f(t, y; theta); ``exact`` is dL/dtheta in closed form, if there is one."""

    title: str
    f: nn.Module
    y0: Tensor
    t1: float
    loss: Callable[[Tensor], Tensor]
    exact: Tensor | None = None
    tight: float = 1e-12  # tolerance of the solve that stands for the truth

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.f.parameters())

    def truth(self) -> Tensor:
        """dL/dtheta as one vector: the closed form, or the exact gradient of a tight solve if there is none."""
        if self.exact is not None:
            return self.exact
        return self.gradient(
            self.forward(solver="dop853", gradient="checkpointed", rtol=self.tight, atol=self.tight)[0]
        )

    def forward(self, **settings: Any) -> tuple[Tensor, Any]:
        """Return L and the solve's statistics."""
        solution = solve(self.f, self.y0, [0.0, self.t1], **settings)
        return self.loss(solution.ys[-1]), solution.stats

    def gradient(self, loss: Tensor) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, self.parameters)])


class Linear(nn.Module):
    """f(t, y) = a y."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float64))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.a * y


def linear() -> Case:
    """L = y(T), so dL/da = T y(T): Chen et al. 2018."""
    a, t1 = -1.0, 5.0
    truth = torch.tensor([t1 * math.exp(a * t1)], dtype=torch.float64)
    start = torch.ones(1, dtype=torch.float64)
    return Case("dy/dt = a y", Linear(a), start, t1, lambda y: y.sum(), truth)


class Forced(nn.Module):
    """f(t, y) = -y + p cos(40 t) at p = 0: y and its adjoint are smooth, df/dp is not."""

    frequency = 40.0

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return -y + self.p * torch.cos(self.frequency * t)


def forced() -> Case:
    """L = y(1), so dL/dp is the integral of exp(t - 1) cos(40 t) over [0, 1]."""
    w = Forced.frequency
    truth = (math.cos(w) + w * math.sin(w) - math.exp(-1)) / (1 + w * w)
    start = torch.full((1,), 0.3, dtype=torch.float64)
    return Case("dy/dt = -y + p cos 40 t", Forced(), start, 1.0, lambda y: y.sum(), torch.tensor([truth]).double())


def trained() -> Case:
    """An MLP that has learned van der Pol's field: backwards in time its solutions run away from the limit cycle."""
    net = MLP((2,), hidden=32, layers=3, time=False).double()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    low, high = torch.tensor([-2.5, -6.0]).double(), torch.tensor([2.5, 6.0]).double()
    zero = torch.zeros(())
    for step in range(TRAINING):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / TRAINING)
        y = low + (high - low) * torch.rand(256, 2, dtype=torch.float64)
        field = torch.stack((y[:, 1], CONTRACTION * (1 - y[:, 0] ** 2) * y[:, 1] - y[:, 0]), dim=1)
        optimizer.zero_grad()
        F.smooth_l1_loss(net(zero, y), field).backward()
        optimizer.step()
    start = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.5, -1.0], [-1.0, 0.5]], dtype=torch.float64)
    return Case("trained field (van der Pol)", net, start, 3.0, lambda y: y.square().mean())


def digits() -> Case:
    """The block of a small ODE-Net, trained for a few steps; L is the cross entropy of a batch of 16."""
    dataset = load_digits(Path())
    fast = ConfiguredSolve(solver="rk4", dt=0.25, gradient="backprop")
    net = ODENet(dataset.shape, 10, Conv, fast, stem="conv", width=8)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for batch in islice(batches(dataset, "train", 64), 20):
        assert batch.targets is not None
        optimizer.zero_grad()
        F.cross_entropy(net(batch.inputs), batch.targets).backward()
        optimizer.step()
    batch = next(batches(dataset, "train", 16))
    labels = batch.targets
    assert labels is not None
    stem, block, head = net.double().eval()
    with torch.no_grad():
        start = stem(batch.inputs.double())
    head.requires_grad_(False)
    assert isinstance(block, ODEBlock)
    # ReLU's kinks hold every method's order down: a tighter truth would cost minutes
    return Case(
        "ODE-Net on digits", block.dynamics, start, block.t1, lambda y: F.cross_entropy(head(y), labels), tight=1e-8
    )


CASES: dict[str, Callable[[], Case]] = {"linear": linear, "forced": forced, "trained": trained, "digits": digits}
