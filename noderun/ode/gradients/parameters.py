"""The tensors that f depends on, and f as a backward pass calls it: with the parameters that the forward solve saw."""

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


def module_of(f: Callable[..., Any]) -> Any:
    """The object behind a callable: a Module, the Module of a bound method, what a partial or ``__wrapped__`` holds."""
    while isinstance(f, functools.partial) or hasattr(f, "__wrapped__"):
        f = f.func if isinstance(f, functools.partial) else f.__wrapped__
    return getattr(f, "__self__", f)


def named_params(f: Callable[..., Any]) -> dict[str, Tensor]:
    """The parameters of f's Module by name; empty if there is no Module behind f."""
    module = module_of(f)
    return dict(module.named_parameters()) if isinstance(module, nn.Module) else {}


def params_to_differentiate(
    named: Mapping[str, Tensor], params: Iterable[Tensor] | None, args: tuple[Any, ...]
) -> tuple[Tensor, ...]:
    """Each tensor once that f depends on and that requires a gradient: ``params``, by default ``named``, and args."""
    tensors = [x for x in tensors_in((*(named.values() if params is None else params), *args)) if x.requires_grad]
    return tuple({id(x): x for x in tensors}.values())


class WithParameters(nn.Module):
    """f with other parameters in place of those that its Module has now."""

    def __init__(self, f: Callable[..., Any], params: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.module = module_of(f)
        self.unregistered = (f,)  # f may be the module: under a second name functional_call would not put all back
        self.params = {f"module.{name}": tensor for name, tensor in params.items()}

    def forward(self, *args: Any) -> Any:
        return self.unregistered[0](*args)

    def call(self, *args: Any) -> Any:
        return functional_call(self, self.params, args)


@contextmanager
def backward_field(problem: Problem) -> Iterator[VectorField]:
    """The field of a backward pass: in the forward solve's autocast state, with the forward solve's parameters.

    An autocast region or a functional_call around backward() has no effect on it. Its calls count in nfe_backward.
    """
    field, stats = copy.copy(problem.field), problem.stats
    field.nfe, field.first = 0, False
    now = named_params(field.f)
    if any(now[name] is not tensor for name, tensor in problem.named_params.items()):
        field.f, field.replaced = WithParameters(field.f, problem.named_params).call, True
    try:
        with torch.autocast(field.autocast.device, enabled=False):
            yield field
    finally:
        stats.nfe_backward = (stats.nfe_backward or 0) + field.nfe
