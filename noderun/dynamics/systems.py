"""Known systems whose parameters are unknown. A parameter named log_NAME is the logarithm of a positive NAME."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from noderun.dynamics.activations import activation as named


def unknown(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(float(value)))


def require_state(name: str, state_shape: tuple[int, ...], size: int) -> None:
    if tuple(state_shape) != (size,):
        raise ValueError(f"dynamics={name} has a state of {size} numbers; the data have {list(state_shape)}")


class LotkaVolterra(nn.Module):
    """Prey u and predators v: u' = (alpha - beta v) u, v' = (-gamma + delta u) v (Lotka 1925, Volterra 1926)."""

    def __init__(
        self,
        state_shape: tuple[int, ...],
        alpha: float = 1.0,
        beta: float = 0.05,
        gamma: float = 1.0,
        delta: float = 0.05,
        prey: int = 0,
    ) -> None:
        super().__init__()
        require_state("lotka_volterra", state_shape, 2)
        self.prey = prey  # its channel
        self.log_alpha, self.log_beta = unknown(math.log(alpha)), unknown(math.log(beta))
        self.log_gamma, self.log_delta = unknown(math.log(gamma)), unknown(math.log(delta))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        u, v = y.unbind(-1) if self.prey == 0 else reversed(y.unbind(-1))
        du = (self.log_alpha.exp() - self.log_beta.exp() * v) * u
        dv = (-self.log_gamma.exp() + self.log_delta.exp() * u) * v
        return torch.stack([du, dv] if self.prey == 0 else [dv, du], dim=-1)


class Pendulum(nn.Module):
    """A damped pendulum: angle' = speed, speed' = -frequency^2 sin(angle) - damping speed."""

    def __init__(self, state_shape: tuple[int, ...], frequency: float = 1.0, damping: float = 0.1) -> None:
        super().__init__()
        require_state("pendulum", state_shape, 2)
        self.log_frequency, self.log_damping = unknown(math.log(frequency)), unknown(math.log(damping))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        angle, speed = y.unbind(-1)
        turn = -(2 * self.log_frequency).exp() * angle.sin() - self.log_damping.exp() * speed
        return torch.stack([speed, turn], dim=-1)


class Lorenz(nn.Module):
    """x' = sigma (y - x), y' = x (rho - z) - y, z' = x y - beta z (Lorenz 1963)."""

    def __init__(self, state_shape: tuple[int, ...], sigma: float = 8.0, rho: float = 25.0, beta: float = 2.0) -> None:
        super().__init__()
        require_state("lorenz", state_shape, 3)
        self.log_sigma, self.log_rho, self.log_beta = (unknown(math.log(p)) for p in (sigma, rho, beta))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        x, y_, z = y.unbind(-1)
        dx, dy = self.log_sigma.exp() * (y_ - x), x * (self.log_rho.exp() - z) - y_
        return torch.stack([dx, dy, x * y_ - self.log_beta.exp() * z], dim=-1)


class HamiltonianField(nn.Module):
    """dq/dt = dH/dp, dp/dt = -dH/dq of a net H(q, p) (Greydanus et al. 2019, equation 1); y holds q, then p."""

    def __init__(
        self, state_shape: tuple[int, ...], hidden: int = 200, layers: int = 3, activation: str = "tanh"
    ) -> None:
        super().__init__()
        (size,) = state_shape
        if size % 2:
            raise ValueError(f"a Hamiltonian system has as many momenta as positions; the data have {size} numbers")
        widths, parts = [size, *[hidden] * (layers - 1)], list[nn.Module]()
        for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
            parts += [nn.Linear(inputs, outputs), named(activation)]
        self.energy = nn.Sequential(*parts, nn.Linear(widths[-1], 1, bias=False))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        recorded = torch.is_grad_enabled()
        with torch.enable_grad():
            y = y if y.requires_grad else y.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.energy(y).sum(), y, create_graph=recorded)
        dq, dp = slope.chunk(2, dim=-1)
        return torch.cat([dp, -dq], dim=-1)


class SecondOrder(nn.Module):
    """q' = v, v' = a(t, q, v): the acceleration is the second half of what a net of the whole state returns."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.cat([y.chunk(2, dim=-1)[1], self.net(t, y).chunk(2, dim=-1)[1]], dim=-1)


class Corrected(nn.Module):
    """A known f plus a net, which is 0 at first (Rackauckas et al. 2020: a universal differential equation)."""

    def __init__(self, known: nn.Module, size: int, hidden: int) -> None:
        super().__init__()
        self.known = known
        last = nn.Linear(hidden, size)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(nn.Linear(size, hidden), nn.Tanh(), last)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.known(t, y) + self.net(y)
