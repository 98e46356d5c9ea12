"""The suite series, events: when each of many pendulums comes down to an angle of its own, and that time's gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from noderun.benchmarks import libraries
from noderun.benchmarks.case import Case, Contenders, as_arrays, errors_of
from noderun.ode import Event
from noderun.ode.engine import solve

TOL, ALLOWED = 1e-6, 1e-4
END = 20.0  # every pendulum has come down by then
DAMPING = 0.1


def crossing_case(device: str, quick: bool) -> Case:
    """Damped pendulums let go at angles of their own; the gradient is that of the sum of times by the start."""
    count = 4 if quick else 64
    generator = torch.Generator().manual_seed(0)
    start = torch.stack([1 + 1.5 * torch.rand(count, generator=generator), torch.zeros(count)], dim=1).to(device)
    angle = (torch.rand(count, generator=generator) - 0.5).to(device)
    contenders: Contenders = {"noderun": partial(by_start, noderun_times, start, angle)}
    if libraries.installed()["torchdiffeq"]:
        contenders["torchdiffeq, one by one"] = partial(by_start, torchdiffeq_times, start, angle)
    if libraries.installed()["diffrax"]:
        contenders["diffrax, side by side"] = diffrax_gradient(start, angle)
    tight = partial(noderun_times, tol=1e-12)
    errors = errors_of(contenders, lambda: as_arrays(by_start(tight, start.double(), angle.double())))
    return Case("series", f"an event for each sample, gradient, batch {count}", contenders, errors, ALLOWED)


def pendulum(t: Tensor, y: Tensor) -> Tensor:
    return torch.stack([y[..., 1], -y[..., 0].sin() - DAMPING * y[..., 1]], dim=-1)


def by_start(times: Callable[[Tensor, Tensor], Tensor], start: Tensor, angle: Tensor) -> Tensor:
    y0 = start.clone().requires_grad_()
    return torch.autograd.grad(times(y0, angle).sum(), y0)[0]


def noderun_times(y0: Tensor, angle: Tensor, tol: float = TOL) -> Tensor:
    """When each pendulum first falls through its angle [B]."""
    event = Event(lambda t, y, angle: y[:, 0] - angle, -1, args=(angle,))
    told: dict[str, Any] = {"rtol": tol, "atol": tol, "per_sample": True, "gradient": "backprop"}
    return solve(pendulum, y0, [0.0, END], events=[event], **told).events[0].ts[0]


def torchdiffeq_times(y0: Tensor, angle: Tensor) -> Tensor:
    """Its event is one for a whole batch, so each pendulum is solved alone."""
    from torchdiffeq import odeint, odeint_event

    def time(y: Tensor, angle: Tensor) -> Tensor:
        told: dict[str, Any] = {"rtol": TOL, "atol": TOL, "method": "dopri5"}
        event = {"event_fn": lambda t, y: y[0] - angle, "odeint_interface": odeint}
        return odeint_event(pendulum, y, y.new_zeros(()), **event, **told)[0]

    return torch.stack([time(y, level) for y, level in zip(y0, angle, strict=True)])


def diffrax_gradient(start: Tensor, angle: Tensor) -> Callable[[], Any]:
    import diffrax
    import jax
    import jax.numpy as jnp
    import optimistix

    y0, levels = (jnp.asarray(part.cpu().numpy()) for part in (start, angle))
    event = diffrax.Event(lambda t, y, args, **_: y[0] - args, optimistix.Newton(TOL, TOL), direction=False)

    def field(t: Any, y: Any, level: Any) -> Any:
        return jnp.stack([y[1], -jnp.sin(y[0]) - DAMPING * y[1]])

    def time(y: Any, level: Any) -> Any:
        controller = diffrax.PIDController(rtol=TOL, atol=TOL)
        term, method = diffrax.ODETerm(field), diffrax.Dopri5()
        told = {"stepsize_controller": controller, "event": event}
        return diffrax.diffeqsolve(term, method, 0.0, END, None, y, level, **told).ts[-1]

    jitted = jax.jit(jax.grad(lambda y: jax.vmap(time)(y, levels).sum()))
    return lambda: jax.block_until_ready(jitted(y0))
