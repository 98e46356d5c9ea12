"""The suite series, controlled equations: forward and backward pass of one neural CDE by three libraries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from noderun.benchmarks import libraries
from noderun.benchmarks.case import Case, Contenders, as_arrays, errors_of
from noderun.models.neural_cde import ControlledField, NeuralCDE
from noderun.ode.configured import ConfiguredSolve

ALLOWED = 0.1  # relative error of the gradient: one step of order 2 an interval, on smooth paths
KNOTS: dict[str, Any] = {"solver": "heun2", "dt": 1.0}
Run = Callable[[NeuralCDE, Tensor, Tensor], Tensor]  # (model, inputs, times) -> outputs


def controlled_case(device: str, quick: bool) -> Case:
    """A batch of JapaneseVowels' size: 32 series of 29 points in 12 channels, and time; state 32."""
    batch, points, channels = (4, 5, 2) if quick else (32, 29, 12)
    torch.manual_seed(0)
    times = torch.linspace(0, 1, points)
    inputs = (times.view(-1, 1) * 3 + torch.rand(batch, 1, channels) * 6).sin()
    model = NeuralCDE((points, channels), 9, ConfiguredSolve(**KNOTS)).to(device)
    x, t = inputs.to(device), times.expand(batch, -1).to(device)
    runs = {"bare loop": bare_loop} | {
        f"noderun {g}": solved(**KNOTS, gradient=g) for g in ("backprop", "checkpointed")
    }
    if libraries.why_absent(("torchcde",)) is None:
        fixed: dict[str, Any] = {"method": "rk4", "options": {"step_size": 1 / (points - 1)}}
        runs["torchcde rk4, backprop"] = partial(torchcde_run, adjoint=False, **fixed)
        runs["torchcde by default"] = torchcde_run  # dopri5 and the adjoint
    contenders: Contenders = {name: partial(gradient, run, model, x, t) for name, run in runs.items()}
    if libraries.installed()["diffrax"]:
        contenders["diffrax Heun, knots"] = diffrax_gradient(model, x, t, at_knots=True)
        contenders["diffrax as in its example"] = diffrax_gradient(model, x, t, at_knots=False)
    tight = solved(solver="dopri5", rtol=1e-8, atol=1e-8)
    wide = NeuralCDE((points, channels), 9, ConfiguredSolve(**KNOTS)).to(device).double()
    wide.load_state_dict(model.state_dict())
    errors = errors_of(contenders, lambda: as_arrays(gradient(tight, wide, x.double(), t.double())))
    return Case("series", f"neural CDE, gradient, batch {batch}, {points} points", contenders, errors, ALLOWED)


def gradient(run: Run, model: NeuralCDE, x: Tensor, t: Tensor) -> list[Tensor]:
    """dL/dtheta of the sum of squares of the outputs."""
    return list(torch.autograd.grad(run(model, x, t).square().sum(), list(model.parameters())))


def solved(**choices: Any) -> Run:
    solve = ConfiguredSolve(**choices)

    def run(model: NeuralCDE, x: Tensor, t: Tensor) -> Tensor:
        model.block.solve = solve
        return model(x, t)

    return run


def bare_loop(model: NeuralCDE, x: Tensor, t: Tensor) -> Tensor:
    """Heun's method by hand: the least that Python and autograd take."""
    field, path = model.block.dynamics, torch.cat([t.unsqueeze(-1), x], dim=2)
    assert isinstance(field, ControlledField)
    z = model.encoder(path[:, 0])
    for dx in path.diff(dim=1).unsqueeze(2).unbind(1):
        k = (field.matrix(z) * dx).sum(-1)
        z = z + (k + (field.matrix(z + k) * dx).sum(-1)) / 2
    return model.head(z)


class Func(nn.Module):
    """A field as torchcde calls it."""

    def __init__(self, field: ControlledField) -> None:
        super().__init__()
        self.field = field

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        return self.field.matrix(z)


def torchcde_run(model: NeuralCDE, x: Tensor, t: Tensor, **choices: Any) -> Tensor:
    import torchcde

    path = torch.cat([t.unsqueeze(-1), x], dim=2)
    spline = torchcde.CubicSpline(torchcde.hermite_cubic_coefficients_with_backward_differences(path, t[0]), t[0])
    field = model.block.dynamics
    assert isinstance(field, ControlledField)
    states = torchcde.cdeint(spline, Func(field), model.encoder(path[:, 0]), spline.interval, **choices)
    return model.head(states[:, -1])


def diffrax_gradient(model: NeuralCDE, x: Tensor, t: Tensor, at_knots: bool) -> Callable[[], list[Any]]:
    """The same net, jitted: a step of Heun's method for each increment, or as diffrax's example, dz/dt by Tsit5."""
    import diffrax
    import jax
    import jax.numpy as jnp

    weights = [jnp.asarray(p.detach().cpu().numpy()) for p in model.parameters()]
    paths = jnp.asarray(torch.cat([t.unsqueeze(-1), x], dim=2).cpu().numpy())
    ts, sizes = paths[0, :, 0], (model.head.in_features, paths.shape[-1])
    pid = diffrax.PIDController(rtol=1e-3, atol=1e-6)

    def matrix(s: Any, z: Any, w: Any) -> Any:
        return jnp.tanh(w[4] @ jax.nn.silu(w[2] @ z + w[3]) + w[5]).reshape(sizes)

    def outputs(w: Any, path: Any) -> Any:
        control = diffrax.CubicInterpolation(ts, diffrax.backward_hermite_coefficients(ts, path))
        term, z0 = diffrax.ControlTerm(matrix, control), w[0] @ path[0] + w[1]
        told: dict[str, Any] = {"stepsize_controller": diffrax.StepTo(ts) if at_knots else pid}
        method = diffrax.Heun() if at_knots else diffrax.Tsit5()
        ends = diffrax.diffeqsolve(
            term if at_knots else term.to_ode(), method, ts[0], ts[-1], None, z0, w, max_steps=4096, **told
        )
        return w[6] @ ends.ys[-1] + w[7]

    def loss(w: Any) -> Any:
        return (jax.vmap(outputs, in_axes=(None, 0))(w, paths) ** 2).sum()

    jitted = jax.jit(jax.grad(loss))
    return lambda: list(jax.block_until_ready(jitted(weights)))
