"""The same continuous flow by other libraries: log p(x) by one net, f of FFJORD with 64-64-64 units."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from noderun.benchmarks.objectives import Flow as DivergenceField
from noderun.dynamics.time_mlp import TimeMLP
from noderun.models.ffjord import FFJORD
from noderun.models.flow import log_normal
from noderun.ode.configured import ConfiguredSolve

GAUSSIAN = math.log(2 * math.pi)  # -2 log N(0; 0, 1)


def noderun_flow(tol: float, gradient: str, compile: bool | None = None) -> nn.Module:
    """model=ffjord, trained and tested at ``tol``."""
    solve = ConfiguredSolve("dopri5", rtol=tol, atol=tol, gradient=gradient, compile=compile)
    torch.manual_seed(0)
    return FFJORD((2,), 2, TimeMLP, solve, test_tolerance=None)


class TorchdiffeqFlow(nn.Module):
    """The net as torchdiffeq's examples/cnf.py writes it: a vector-Jacobian product per dimension, odeint_adjoint."""

    def __init__(self, tol: float) -> None:
        super().__init__()
        self.f, self.tol = DivergenceField(), tol

    def forward(self, x: Tensor) -> Tensor:
        from torchdiffeq import odeint_adjoint

        times = torch.tensor([1.0, 0.0]).to(x)
        state = x, x.new_zeros(len(x))
        z, log_det = odeint_adjoint(self.f, state, times, rtol=self.tol, atol=self.tol, method="dopri5")
        return log_normal(z[-1]) + log_det[-1]


def with_weights_of(model: nn.Module, peer: nn.Module) -> nn.Module:
    """The peer with the weights of ours; both list them in one order."""
    with torch.no_grad():
        for theirs, ours in zip(peer.parameters(), model.parameters(), strict=True):
            theirs.copy_(ours)
    return peer


def zuko_flow(tol: float) -> nn.Module:
    """zuko.flows.CNF with as many units; its net sees the time in another way, so its numbers are its own."""
    import zuko

    torch.manual_seed(0)
    flow = zuko.flows.CNF(2, hidden_features=(64, 64, 64), exact=True)
    flow.transform.atol = flow.transform.rtol = tol
    return ZukoCNF(flow)


class ZukoCNF(nn.Module):
    """log p(x) of a lazy distribution of zuko's."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor) -> Tensor:
        log_prob: Tensor = self.flow().log_prob(x)
        return log_prob


def diffrax_gradient(model: nn.Module, x: Tensor, tol: float) -> Callable[[], list[Any]]:
    """dL/dtheta of the mean of -log p(x) as in diffrax's example of a continuous flow, jitted; one solve per batch."""
    import diffrax
    import jax
    import jax.numpy as jnp

    weights = [jnp.asarray(parameter.detach().cpu().numpy()) for parameter in model.parameters()]
    points = jnp.asarray(x.cpu().numpy())

    def velocity(t: Any, y: Any, w: Any) -> Any:
        """One point [2]; five arrays make a layer (W x + b) sigmoid(a t + c) + d t."""
        for i in range(0, len(w), 5):
            matrix, bias, gate, offset, shift = w[i : i + 5]
            y = (matrix @ (jnp.tanh(y) if i else y) + bias) * jax.nn.sigmoid(gate[:, 0] * t + offset) + shift[:, 0] * t
        return y

    def field(t: Any, state: Any, w: Any) -> Any:
        def with_trace(y: Any) -> Any:
            return velocity(t, y, w), jnp.trace(jax.jacfwd(partial(velocity, t), argnums=0)(y, w))

        return jax.vmap(with_trace)(state[0])

    def loss(w: Any) -> Any:
        z, log_det = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Dopri5(),
            t0=1.0,
            t1=0.0,
            dt0=None,
            y0=(points, jnp.zeros(len(points))),
            args=w,
            stepsize_controller=diffrax.PIDController(rtol=tol, atol=tol),
            max_steps=4096,
        ).ys
        return (0.5 * (z[-1] ** 2 + GAUSSIAN).sum(1) - log_det[-1]).mean()

    jitted = jax.jit(jax.grad(loss))
    return lambda: list(jax.block_until_ready(jitted(weights)))
