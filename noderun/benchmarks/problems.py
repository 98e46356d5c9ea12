"""The problems that contenders are timed on: vector fields with weights that torch and jax share."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


class MLPField(nn.Module):
    """dy/dt = MLP(y), tanh, as in the published comparisons of small neural ODEs."""

    def __init__(self, dim: int = 2, width: int = 64, hidden: int = 2, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        sizes = [dim, *[width] * hidden, dim]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(sizes, sizes[1:], strict=False))
        for layer in self.linears():
            for p in layer.parameters():
                bound = layer.in_features**-0.5
                with torch.no_grad():
                    p.copy_(torch.empty_like(p).uniform_(-bound, bound, generator=generator))

    def linears(self) -> list[nn.Linear]:
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            y = torch.tanh(layer(y))
        return self.layers[-1](y)


class VanDerPol(nn.Module):
    def __init__(self, mu: float) -> None:
        super().__init__()
        self.mu = mu

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack([v, self.mu * (1 - x * x) * v - x], -1)


class LotkaVolterra(nn.Module):
    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        x, z = y.unbind(-1)
        return torch.stack([x * (1.5 - z), z * (x - 3.0)], -1)


@dataclass(frozen=True)
class Problem:
    """An initial value problem y0 [B, D], its output times, one tolerance for rtol and atol."""

    name: str
    f: nn.Module
    y0: Tensor
    ts: list[float]
    tol: float
    per_sample: bool = False

    @property
    def times(self) -> Tensor:
        return torch.tensor(self.ts, dtype=self.y0.dtype, device=self.y0.device)


def starts(batch: int, dim: int = 2, device: str = "cpu") -> Tensor:
    return torch.randn(batch, dim, generator=torch.Generator().manual_seed(1)).to(device)


def mlp(batch: int, tol: float, outputs: int = 2, device: str = "cpu", width: int = 64) -> Problem:
    ts = torch.linspace(0, 10, outputs, dtype=torch.float64).tolist()
    name = f"MLP 2-{width}-{width}-2, B = {batch}, tol = {tol:g}" + (f", {outputs} outputs" if outputs > 2 else "")
    return Problem(name, MLPField(width=width).to(device), starts(batch, device=device), ts, tol)


def van_der_pol(batch: int, mu: float, tol: float, outputs: int, device: str = "cpu") -> Problem:
    ts = torch.linspace(0, 7.63, outputs, dtype=torch.float64).tolist()  # about one cycle at mu = 2
    y0 = torch.rand(batch, 2, generator=torch.Generator().manual_seed(1)).mul(4).sub(2).to(device)
    name = f"Van der Pol mu = {mu:g}, B = {batch}, tol = {tol:g}, {outputs} outputs"
    return Problem(name, VanDerPol(mu), y0, ts, tol)


def lotka_volterra(batch: int, tol: float, device: str = "cpu") -> Problem:
    y0 = torch.rand(batch, 2, generator=torch.Generator().manual_seed(1)).add(0.5).to(device)
    name = f"Lotka-Volterra, {batch} orbits with steps of their own, tol = {tol:g}"
    return Problem(name, LotkaVolterra(), y0, [0.0, 10.0], tol, per_sample=True)


def tight(problem: Problem) -> Problem:
    """The same in float64 at a tolerance that makes it the truth."""
    return replace(problem, f=copy.deepcopy(problem.f).double(), y0=problem.y0.double(), tol=1e-4 * problem.tol)
