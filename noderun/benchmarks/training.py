"""The suite training: the ODE-Net's block, its whole training step, and FFJORD's net in two dimensions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noderun.benchmarks import peers
from noderun.benchmarks.case import LIMIT, Case, Contenders, as_arrays, distance
from noderun.dynamics.conv import Conv, group_norm
from noderun.engine import solve
from noderun.models.odenet import ODENet

TOL = 1e-3


class ConcatConv(nn.Module):
    """The same dynamics as ``dynamics/conv`` with t concatenated as a channel, as peers' examples have it."""

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


def training_cases(device: str, quick: bool) -> Iterator[Case]:
    batch = 16 if quick else 128
    for gradient in ("backprop", "adjoint"):
        yield block_case(batch, gradient, device)
    yield step_case(batch, device)


def ode(library: str, gradient: str) -> Callable[[nn.Module, Tensor], Tensor]:
    """(f, y0) -> y(1) with one library's solver and gradient."""
    if library == "noderun":
        return lambda f, y0: solve(f, y0, [0.0, 1.0], rtol=TOL, atol=TOL, gradient=gradient).ys[-1]
    import torchdiffeq

    integrate = torchdiffeq.odeint if gradient == "backprop" else torchdiffeq.odeint_adjoint
    return lambda f, y0: integrate(f, y0, torch.tensor([0.0, 1.0]).to(y0), rtol=TOL, atol=TOL, method="dopri5")[-1]


def libraries() -> list[str]:
    return ["noderun", *(["torchdiffeq"] if peers.installed()["torchdiffeq"] else [])]


def block_case(batch: int, gradient: str, device: str) -> Case:
    """Forward and backward of the block alone on the same f [batch, 64, 6, 6]: nothing but f and the solver."""
    torch.manual_seed(0)
    f, y0 = ConcatConv((64, 6, 6)).to(device), torch.randn(batch, 64, 6, 6).to(device)
    contenders: Contenders = {f"{lib} {gradient}": partial(pulled, ode(lib, gradient), f, y0) for lib in libraries()}
    stats = counts(f, y0, gradient)
    t, params = torch.zeros((), device=device), list(f.parameters())

    def bare() -> None:
        for _ in range(stats[0]):
            with torch.no_grad():
                f(t, y0)
        for _ in range(stats[1]):
            y = y0.detach().requires_grad_()
            torch.autograd.grad(f(t, y), [y, *params], y0)

    def errors() -> dict[str, float]:
        exact = partial(solve, rtol=1e-6, atol=1e-6, gradient="checkpointed")
        truth = pulled(lambda f, y: exact(f, y, [0.0, 1.0]).ys[-1], copy.deepcopy(f).double(), y0.double())
        return {name: distance(as_arrays(run()), as_arrays(truth)) for name, run in contenders.items()}

    name = f"ODE-Net's block by {gradient}, state [{batch}, 64, 6, 6], tol = {TOL:g}, NFE {stats[0]} + {stats[1]}"
    return Case("training", name, {LIMIT: bare, **contenders}, errors, 0.3)


def counts(f: nn.Module, y0: Tensor, gradient: str) -> tuple[int, int]:
    """Evaluations without, and with a vjp, that the limit of this gradient has."""
    solution = solve(f, y0.clone().requires_grad_(), [0.0, 1.0], rtol=TOL, atol=TOL, gradient=gradient)
    solution.ys[-1].square().sum().backward()
    f.zero_grad()
    stats = solution.stats
    return (0, stats.nfe_forward) if stats.nfe_backward is None else (stats.nfe_forward, stats.nfe_backward)


def pulled(run: Callable[[nn.Module, Tensor], Tensor], f: nn.Module, y0: Tensor) -> list[Tensor]:
    """dL/dy0 and dL/dtheta of L = sum(y(1)^2) / 2."""
    y = y0.detach().clone().requires_grad_()
    y1 = run(f, y)
    return list(torch.autograd.grad(y1, [y, *f.parameters()], y1.detach()))


def step_case(batch: int, device: str) -> Case:
    """One optimiser step of the whole net: peers with the concatenating f, this program with its own."""
    contenders: Contenders = {}
    for library in libraries():
        for gradient in ("backprop", "adjoint"):
            dynamics = Conv if library == "noderun" else ConcatConv
            contenders[f"{library} {gradient}"] = trainer(batch, device, dynamics, ode(library, gradient))
    plain = trainer(batch, device, Conv, lambda f, y0: y0)
    return Case(
        "training",
        f"ODE-Net, one training step, batch {batch}",
        {"net without its block": plain, **contenders},
        dict,
        1.0,
    )


def trainer(batch: int, device: str, dynamics: Any, run: Callable[[nn.Module, Tensor], Tensor]) -> Callable[[], float]:
    torch.manual_seed(0)
    net = ODENet((1, 28, 28), 10, dynamics, Solved(run)).to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    x, labels = torch.rand(batch, 1, 28, 28).to(device), torch.randint(10, (batch,)).to(device)

    def step() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


class Solved:
    """A peer's solve in the form that the ODE block takes."""

    stats = None

    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor]) -> None:
        self.run = run

    def __call__(self, f: nn.Module, y0: Tensor, ts: list[float]) -> Solved:
        self.ys = self.run(f, y0).unsqueeze(0)
        return self
