"""torchdiffeq's odeint, odeint_adjoint and odeint_event on this engine; docs/torchdiffeq.md lists the differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from noderun.ode.gradients import Adjoint, Backprop
from noderun.ode.torchdiffeq_options import Call

Options = dict[str, Any] | None


def odeint(
    func: Callable[..., Any],
    y0: Any,
    t: Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: Options = None,
    event_fn: Callable[..., Tensor] | None = None,
) -> Any:
    """y at every time of t [T] as [T, *y0.shape], differentiable by backprop.

    With ``event_fn`` the result is (t*, y at t[0] and t*): the solve ends at t*, where the first component of
    ``event_fn(t, y)`` crosses zero, and t[1] only gives the direction.
    """
    call = Call(func, y0, t, rtol, atol, method or "dopri5", options or {}, event_fn)
    return call.solved(Adjoint() if call.method == "scipy_solver" else Backprop(), (), None)


def odeint_adjoint(
    func: Callable[..., Any],
    y0: Any,
    t: Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: Options = None,
    event_fn: Callable[..., Tensor] | None = None,
    adjoint_rtol: Any = None,
    adjoint_atol: Any = None,
    adjoint_method: str | None = None,
    adjoint_options: Options = None,
    adjoint_params: Iterable[Tensor] | None = None,
) -> Any:
    """``odeint`` differentiable by the continuous adjoint; gradients reach y0, t and ``adjoint_params``."""
    if adjoint_params is None:
        if not isinstance(func, nn.Module):
            raise ValueError("func is not an nn.Module: name its parameters with adjoint_params, () if it has none")
        adjoint_params = func.parameters()
    if adjoint_method not in (None, method) and options and adjoint_options is None:
        raise ValueError("adjoint_method differs from method, so options cannot serve both: give adjoint_options too")
    if adjoint_options is None:
        adjoint_options = {key: value for key, value in (options or {}).items() if key != "norm"}
    call = Call(func, y0, t, rtol, atol, method or "dopri5", options or {}, event_fn)
    backward = replace(
        call,
        rtol=rtol if adjoint_rtol is None else adjoint_rtol,
        atol=atol if adjoint_atol is None else adjoint_atol,
        method=adjoint_method or call.method,
        options=adjoint_options,
        adjoint=True,
    )
    params = tuple(p for p in adjoint_params if p.requires_grad)
    norm = "seminorm" if adjoint_options.get("norm") == "seminorm" else "full"
    return call.solved(Adjoint(norm=norm), params, backward)


def odeint_event(
    func: Callable[..., Any],
    y0: Any,
    t0: Tensor,
    *,
    event_fn: Callable[..., Tensor],
    reverse_time: bool = False,
    odeint_interface: Callable[..., Any] = odeint,
    **kwargs: Any,
) -> Any:
    """(t*, y at t0 and t*) of the first event after t0, with ``reverse_time`` before it; both differentiable."""
    start = t0.reshape(-1)
    t = torch.cat([start, start.detach() + (-1.0 if reverse_time else 1.0)])
    return odeint_interface(func, y0, t, event_fn=event_fn, **kwargs)
