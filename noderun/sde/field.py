"""The right-hand side of an SDE as a solver sees it: f and g, and within a step the velocity f + g dW/h.

Over a step of size h the path is taken as straight, so that a step of an ordinary method along dy/dt = f + g dW/h is a
step for the SDE. It converges to the Stratonovich solution if the method is of order 2, to Ito's if it is Euler's
(Wong, Zakai 1965). So methods, gradients and counts are those of ``noderun.ode``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from noderun.ode.gradients.parameters import module_of
from noderun.ode.solvers.field import Autocast, VectorField, recorded
from noderun.ode.solvers.state import Layout
from noderun.sde.noise_types import Noise

Path = Callable[[float, float], Tensor]  # s, t -> W(t) - W(s)


class Equation(nn.Module):
    """f and g as one callable, which holds the Modules behind both, so that their parameters are found."""

    def __init__(self, f: Callable[..., Any], g: Callable[..., Any]) -> None:
        super().__init__()
        self.functions = (f, g)
        for name, function in (("drift", f), ("diffusion", g)):
            if isinstance(module := module_of(function), nn.Module):
                self.add_module(name, module)

    def forward(self, both: bool, *args: Any) -> tuple[Any, Any]:
        """(f, g) at ``args``; without ``both`` f is None."""
        f, g = self.functions
        return f(*args) if both else None, g(*args)


class SDEField(VectorField):
    """f [N] and g [N], or [N, M] if g is a matrix; ``f`` is an ``Equation`` and ``nfe`` counts the calls of f."""

    def __init__(
        self,
        equation: Equation,
        layout: Layout,
        args: tuple[Any, ...],
        autocast: Autocast,
        noise: Noise,
        interpretation: str,
        path: Path,
    ) -> None:
        super().__init__(equation, layout, args, autocast)
        self.noise, self.interpretation, self.path = noise, interpretation, path
        self.rate: Tensor | None = None  # dW/h, shaped like g, while a step is made
        self.converted = False  # from Ito's to the Stratonovich drift

    def increment(self, s: float, t: float) -> Tensor:
        """W(t) - W(s), shaped like g."""
        return self.noise.spread(self.path(s, t))

    def moved(self, drift: Tensor, diffusion: Tensor, rate: Tensor) -> Tensor:
        """f + g rate [N]."""
        if diffusion.dim() == 1:
            return torch.addcmul(drift, diffusion, rate)
        return drift + (diffusion * rate).sum(-1)

    def __call__(self, t: Tensor, y: Tensor, in_quadrature: bool = True) -> Tensor:
        """f + g dW/h [N] within a step; outside of one all numbers of f and g, for checks."""
        drift, diffusion = self.leaves(t, y)
        if self.rate is None:
            return torch.cat([drift, diffusion.flatten()])
        return self.moved(drift, diffusion, self.rate)

    def diffusion(self, t: Tensor, y: Tensor) -> Tensor:
        """g alone, which is not counted."""
        return self.values(t, y, both=False)[1]

    def called(self, t: Tensor, y: Tensor) -> list[Tensor]:
        """[f, g]."""
        if self.differentiates and not recorded(y):
            return self.called_at_leaf(t, y)
        return list(self.converted_values(t, y) if self.converted else self.values(t, y))

    def called_first(self, t: Tensor, y: Tensor) -> list[Tensor]:
        self.known = None  # f and g at the start of a step are asked for in other forms than at the check before
        return super().called_first(t, y)

    def called_at_leaf(self, t: Tensor, y: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            leaves = self.values(t, y.detach().requires_grad_())
        return list(leaves) if torch.is_grad_enabled() else [leaf.detach() for leaf in leaves]

    def values(self, t: Tensor, y: Tensor, both: bool = True) -> tuple[Tensor, Tensor]:
        """f [N] and g in y's dtype; ValueError for another shape."""
        with self.autocast.inside():
            f, g = self.f(both, t, self.layout.unflatten(y), *self.args)
        diffusion = self.noise.flatten(g).to(y.dtype)
        return (self.layout.flatten(f).to(y.dtype) if both else y), diffusion

    def converted_values(self, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """f - 1/2 sum_k (dg_k/dy) g_k and g, with the sum over the columns of g; Kloeden, Platen 1992, (4.9.11)."""
        with torch.enable_grad():
            y = y if y.requires_grad else y.detach().requires_grad_()
            drift, diffusion = self.values(t, y)
            columns = [diffusion] if diffusion.dim() == 1 else diffusion.unbind(-1)
            return drift - sum(jvp(g, y, g) for g in columns) / 2, diffusion


def jvp(value: Tensor, y: Tensor, direction: Tensor) -> Tensor:
    """(dvalue/dy) direction [N] as the derivative of the vjp, which is linear in its cotangent."""
    if not value.requires_grad:
        return torch.zeros_like(value)
    cotangent = torch.zeros_like(value, requires_grad=True)
    (pulled,) = torch.autograd.grad(value, y, cotangent, create_graph=True, allow_unused=True)
    if pulled is None or not pulled.requires_grad:
        return torch.zeros_like(value)
    (pushed,) = torch.autograd.grad(pulled, cotangent, direction, create_graph=True, materialize_grads=True)
    return pushed


def sde_field(field: Any) -> SDEField:
    """The SDE's own field behind that of an adjoint."""
    found: SDEField = getattr(field, "field", field)
    return found


def with_stratonovich_drift(field: SDEField) -> SDEField:
    """The same equation with the drift that makes its Stratonovich solution the Ito solution of ``field``."""
    found = copy.copy(field)
    found.converted, found.witness = True, None
    return found
