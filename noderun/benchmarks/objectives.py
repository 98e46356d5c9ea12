"""The objectives of the suite training: a field, the start of its solve, and a loss of the solution.

``net.double()`` makes all of it float64; the gradient asked for is that of all its parameters, y0 among them where
something would have come before the solve.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noderun.dynamics.conv import group_norm


class Objective(nn.Module, ABC):
    """``solve`` goes from ``start()`` with ``f`` through ``ts``; ``loss(ys)`` is differentiated."""

    name: str
    f: nn.Module
    ts: list[float]
    tol: float

    @abstractmethod
    def start(self) -> Any:
        """A tensor or a tuple of them."""

    @abstractmethod
    def loss(self, ys: Any) -> Tensor:
        """Of the solution at all of ``ts``."""


class ConcatConv(nn.Module):
    """The same dynamics as ``dynamics/conv`` with t concatenated as a channel, as other libraries' examples have it."""

    def __init__(self, state_shape: tuple[int, ...]) -> None:
        super().__init__()
        c = state_shape[0]
        self.norm1, self.norm2, self.norm3 = group_norm(c), group_norm(c), group_norm(c)
        self.conv1, self.conv2 = nn.Conv2d(c + 1, c, 3, padding=1), nn.Conv2d(c + 1, c, 3, padding=1)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        h = self.conv1(self.with_time(t, F.relu(self.norm1(y))))
        h = self.conv2(self.with_time(t, F.relu(self.norm2(h))))
        return self.norm3(h)

    def with_time(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(x[:, :1]) * t, x], 1)


class Block(Objective):
    """The ODE-Net's block alone: nothing but f and the solver (Chen et al. 2018)."""

    ts, tol = [0.0, 1.0], 1e-3

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.name = f"ODE-Net's block, state [{batch}, 64, 6, 6]"
        self.f = ConcatConv((64, 6, 6))
        self.y0 = nn.Parameter(torch.randn(batch, 64, 6, 6))

    def start(self) -> Tensor:
        return self.y0

    def loss(self, ys: Tensor) -> Tensor:
        return ys[-1].square().sum() / 2


class ConcatSquash(nn.Module):
    """W x + b, gated and shifted by t."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear, self.gate = nn.Linear(inputs, outputs), nn.Linear(1, outputs)
        self.shift = nn.Linear(1, outputs, bias=False)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        t = t.reshape(1, 1)
        return self.linear(x) * torch.sigmoid(self.gate(t)) + self.shift(t)


class Flow(nn.Module):
    """d(x, log p)/dt = (f, div f) with the exact divergence, one vjp per dimension (Grathwohl et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConcatSquash(*pair) for pair in ((2, 64), (64, 64), (64, 64), (64, 2)))

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            x = state[0] if state[0].requires_grad else state[0].detach().requires_grad_()
            h = self.layers[0](t, x)
            for layer in self.layers[1:]:
                h = layer(t, torch.tanh(h))
            rows = [
                torch.autograd.grad(h[:, i].sum(), x, create_graph=differentiable, retain_graph=True)[0][:, i]
                for i in range(x.shape[1])
            ]
        divergence = torch.stack(rows).sum(0)
        return (h, divergence) if differentiable else (h.detach(), divergence)


class FFJORD(Objective):
    """The toy flow of FFJORD's authors: 64-64-64, tanh, T = 0.5, eight Gaussians, negative log-likelihood."""

    ts, tol = [0.0, 0.5], 1e-5
    x: Tensor

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.name = f"FFJORD in two dimensions, batch {batch}"
        self.f = Flow()
        angle = torch.randint(8, (batch,)) * math.pi / 4
        centre = 4 * torch.stack([angle.cos(), angle.sin()], 1)
        self.register_buffer("x", (centre + 0.5 * torch.randn(batch, 2)) / 2**0.5)

    def start(self) -> tuple[Tensor, Tensor]:
        return self.x, self.x.new_zeros(len(self.x))

    def loss(self, ys: tuple[Tensor, Tensor]) -> Tensor:
        z, log_det = ys[0][-1], ys[1][-1]
        return (z.square().sum(1) / 2 + math.log(2 * math.pi) - log_det).mean()


class LatentField(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 20), nn.ELU(), nn.Linear(20, 20), nn.ELU(), nn.Linear(20, 4))

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        return self.net(z)


class LatentODE(Objective):
    """The latent ODE on spirals (Chen et al. 2018) from z0 on: through 100 times, to points and their likelihood."""

    ts, tol = torch.linspace(0, 6 * math.pi, 500, dtype=torch.float64)[:100].tolist(), 1e-3
    points: Tensor

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.name = f"latent ODE, batch {batch}, {len(self.ts)} times"
        self.f = LatentField()
        self.decoder = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 2))
        self.z0 = nn.Parameter(torch.randn(batch, 4))
        self.register_buffer("points", torch.randn(len(self.ts), batch, 2))

    def start(self) -> Tensor:
        return self.z0

    def loss(self, ys: Tensor) -> Tensor:
        """-log N(points; decoded, 0.3^2) up to a constant, the mean over the batch."""
        return (self.decoder(ys) - self.points).square().sum() / (2 * 0.3**2 * ys.shape[1])
