"""The suite series, a latent ODE: the loss of diffrax's example and its gradient, by three libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from noderun.benchmarks import libraries
from noderun.benchmarks.case import Case, Contenders, as_arrays, errors_of
from noderun.data.curves import oscillators
from noderun.dynamics.mlp import MLP
from noderun.models.block import Solve
from noderun.models.latent_ode import LatentODE
from noderun.ode.configured import ConfiguredSolve

SIZE, CHANNELS = 16, 2  # of z(0), of the ODE's state and of every hidden layer; of the series
TOL, STEP = 1e-3, 0.4  # of adaptive solves; the step of diffrax's example, which is fixed
ALLOWED = 1e-2


@dataclass(frozen=True, eq=False)
class Questions:
    """Series x [B, T, D] at times [B, T] of their own, and the standard normal numbers [1, B, latent] of z(0)."""

    x: Tensor
    times: Tensor
    epsilon: Tensor

    @staticmethod
    def drawn(count: int, points: int, device: str) -> Questions:
        rows = oscillators(Path(), examples=count, points=points, standardize=False).train.to(torch.device(device))
        assert rows.times is not None
        generator = torch.Generator().manual_seed(0)
        return Questions(rows.inputs, rows.times, torch.randn(1, count, SIZE, generator=generator).to(device))

    def double(self) -> Questions:
        return Questions(self.x.double(), self.times.double(), self.epsilon.double())


def latent_case(device: str, quick: bool) -> Case:
    """256 damped oscillators, each at 20 times of its own; the settings of experiment=latent_ode/oscillators."""
    count, points = (8, 4) if quick else (256, 20)
    model, asked = latent_ode(points).to(device), Questions.drawn(count, points, device)
    contenders: Contenders = {name: partial(gradient, model, solve, asked) for name, solve in solves().items()}
    if libraries.installed()["diffrax"]:
        contenders["diffrax as in its example"] = diffrax_gradient(model, asked)
    wide, tight = latent_ode(points).to(device).double(), ConfiguredSolve(rtol=1e-9, atol=1e-9, gradient="backprop")
    wide.load_state_dict(model.state_dict())
    errors = errors_of(contenders, lambda: as_arrays(gradient(wide, tight, asked.double())))
    return Case("series", f"latent ODE, gradient, batch {count}, {points} times each", contenders, errors, ALLOWED)


def latent_ode(points: int) -> LatentODE:
    torch.manual_seed(0)
    field = partial(MLP, hidden=SIZE, activation="softplus", output="tanh", time=False)
    shape, solve = (points, CHANNELS), ConfiguredSolve()
    return LatentODE(shape, 0, field, solve, latent=SIZE, lift=SIZE, hidden=SIZE, decoder=0, noise=1.0)


def solves() -> dict[str, Solve]:
    """Adaptive ones, and one with the steps of diffrax's example."""
    found: dict[str, Solve] = {
        f"noderun {g}": ConfiguredSolve("dopri5", rtol=TOL, atol=TOL, gradient=g) for g in ("backprop", "adjoint")
    }
    found["noderun tsit5, fixed steps"] = ConfiguredSolve("tsit5", dt=STEP, gradient="backprop")
    if libraries.installed()["torchdiffeq"]:
        from torchdiffeq import odeint, odeint_adjoint

        for name, ode in (("backprop", odeint), ("adjoint", odeint_adjoint)):
            found[f"torchdiffeq {name}"] = partial(torchdiffeq_solution, ode)
    return found


def torchdiffeq_solution(ode: Callable[..., Tensor], f: Any, y0: Tensor, ts: Tensor) -> SimpleNamespace:
    return SimpleNamespace(ys=ode(f, y0, ts, rtol=TOL, atol=TOL, method="dopri5"), stats=None)


def gradient(model: LatentODE, solve: Solve, asked: Questions) -> list[Tensor]:
    """dL/dtheta of the example's loss, the mean over series of |x - mean|^2 / 2 + KL."""
    model.block.solve = solve
    posterior = model.infer(asked.x, asked.times, None)
    off = asked.x - model.paths(posterior, asked.epsilon, asked.times).mean[0]
    loss = (off.square().sum((1, 2)) / 2 + model.start_kl(posterior)).mean()
    return list(torch.autograd.grad(loss, list(model.parameters())))


def diffrax_gradient(model: LatentODE, asked: Questions) -> Callable[[], list[Any]]:
    """The same net as diffrax's example solves it, jitted: a solve per series, side by side, each to its own times."""
    import diffrax
    import jax
    import jax.numpy as jnp

    weights = [jnp.asarray(p.detach().cpu().numpy()) for p in model.parameters()]
    arrays = [jnp.asarray(part.cpu().numpy()) for part in (asked.x, asked.times, asked.epsilon[0])]

    def field(t: Any, y: Any, w: Any) -> Any:
        return jnp.tanh(jax_mlp(y, w, jax.nn.softplus))

    def loss_of_one(w: Any, x: Any, t: Any, epsilon: Any) -> Any:
        gaps = jnp.diff(t, prepend=0.0)[:, None]
        backward = jnp.concatenate([x, jnp.ones_like(x), gaps], axis=1)[::-1]
        h, _ = jax.lax.scan(lambda h, u: (jax_gru(u, h, w[:4]), None), jnp.zeros(SIZE), backward)
        mean, log_variance = jnp.split(w[4] @ h + w[5], 2)
        start = jax_mlp(mean + jnp.exp(log_variance / 2) * epsilon, w[6:12], jax.nn.relu)
        saveat = diffrax.SaveAt(ts=t)
        term, method = diffrax.ODETerm(field), diffrax.Tsit5()
        states = diffrax.diffeqsolve(term, method, 0.0, t[-1], STEP, start, w[12:18], saveat=saveat).ys
        off = x - (states @ w[18].T + w[19])
        return ((off**2).sum() + (mean**2 + jnp.exp(log_variance) - log_variance - 1).sum()) / 2

    def loss(w: Any) -> Any:
        return jax.vmap(loss_of_one, in_axes=(None, 0, 0, 0))(w, *arrays).mean()

    jitted = jax.jit(jax.grad(loss))
    return lambda: list(jax.block_until_ready(jitted(weights)))


def jax_mlp(x: Any, w: Any, activation: Callable[[Any], Any]) -> Any:
    """Linear layers, each a matrix and a bias, with an activation between them."""
    for i in range(0, len(w), 2):
        x = w[i] @ (activation(x) if i else x) + w[i + 1]
    return x


def jax_gru(x: Any, h: Any, w: Any) -> Any:
    """torch's GRU cell."""
    import jax
    import jax.numpy as jnp

    of_x, of_h = jnp.split(w[0] @ x + w[2], 3), jnp.split(w[1] @ h + w[3], 3)
    reset, update = (jax.nn.sigmoid(a + b) for a, b in zip(of_x[:2], of_h[:2], strict=True))
    return (1 - update) * jnp.tanh(of_x[2] + reset * of_h[2]) + update * h
