"""What f depends on: its parameters, where they are found, and the field as a backward pass calls it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from noderun.ode.solvers.field import VectorField
from noderun.ode.solvers.integrate import Problem
from noderun.ode.solvers.nesting import tensors_in


def owner(f: Callable[..., Any]) -> Any:
    """The object behind a callable: a Module, the Module of a bound method, what a partial wraps."""
    while isinstance(f, functools.partial):
        f = f.func
    return getattr(f, "__self__", f)


def dependencies(own: dict[str, Tensor], params: Iterable[Tensor] | None, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """What f depends on and requires gradients: declared or its ``own`` parameters, and the tensors in args."""
    declared = own.values() if params is None else params
    tensors = [x for x in tensors_in((*declared, *args)) if x.requires_grad]
    return tuple({id(x): x for x in tensors}.values())


class WithParameters(nn.Module):
    """f with the parameters that its Module had at the time of the solve (functional_call has taken them out again)."""

    def __init__(self, f: Callable[..., Any], then: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.module = owner(f)
        self.unregistered = (f,)  # f may be the module: under a second name functional_call would not put all back
        self.then = {f"module.{name}": tensor for name, tensor in then.items()}

    def forward(self, *args: Any) -> Any:
        return self.unregistered[0](*args)

    def call(self, *args: Any) -> Any:
        return functional_call(self, self.then, args)


def named_parameters(f: Callable[..., Any]) -> dict[str, Tensor]:
    module = owner(f)
    return dict(module.named_parameters()) if isinstance(module, nn.Module) else {}


@contextmanager
def again(problem: Problem) -> Iterator[VectorField]:
    """The field for a backward pass, counted in nfe_backward: the forward's autocast state and its parameters.

    Whatever surrounds backward() (an autocast region, a functional_call) takes no part in it.
    """
    field, stats = copy.copy(problem.field), problem.stats
    field.nfe, field.first = 0, False
    now = named_parameters(field.f)
    if any(now[name] is not tensor for name, tensor in problem.own.items()):
        field.f, field.replaced = WithParameters(field.f, problem.own).call, True
    try:
        with torch.autocast(field.autocast.device, enabled=False):
            yield field
    finally:
        stats.nfe_backward = (stats.nfe_backward or 0) + field.nfe


def refuse_second(gradient: str) -> None:
    """RuntimeError where the backward pass itself is to be differentiated."""
    if torch.is_grad_enabled():
        raise RuntimeError(f"gradient='{gradient}' can be differentiated once; use gradient='backprop' for more")
