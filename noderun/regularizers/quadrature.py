"""The state y and a quadrature r beside it as one vector field, which every gradient method can differentiate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from noderun.ode.solvers.control import Norm, rms
from noderun.ode.solvers.nesting import map_tensors, tensors_in

Field = Callable[[Tensor, Any], Any]
Integrand = Callable[..., tuple[Any, Tensor]]  # (f, t, y) -> dy/dt, dr/dt [B]
Regularizer = Callable[[Any], Integrand]


class Quadrature(nn.Module):
    """d(y, r)/dt = (f(t, y, *args), integrand) for any state y and r [B]; a Module, so that f's parameters are found.

    y is a tensor [B, ...], or a tuple or dict of such. A solve does not nest deeper, so its state is ``start``: the
    tensors of y side by side, then r. ``norm`` is the error norm of y alone: nothing depends on r, so it must not
    choose the steps. What the integrand drew for a solve comes first among the solve's ``args`` (``drawn_by``), so that
    one field serves for many solves.
    """

    def __init__(self, f: nn.Module, integrand: Integrand, y0: Any, norm_of_y: Norm = rms) -> None:
        super().__init__()
        self.f = f
        self.integrand, self.draws = lasting(integrand), len(drawn_by(integrand))
        self.pattern = map_tensors(lambda y: y.new_empty(0), y0)
        tensors = self.parts(y0)
        size = sum(y.numel() for y in tensors)
        self.norm = OfPart(norm_of_y, size, size + len(tensors[0]))

    def start(self, y0: Any) -> tuple[Tensor, ...]:
        """(y, r) at the start."""
        tensors = self.parts(y0)
        return *tensors, tensors[0].new_zeros(len(tensors[0]))

    def forward(self, t: Tensor, state: tuple[Tensor, ...], *args: Any) -> tuple[Tensor, ...]:
        drawn, of_f = args[: self.draws], args[self.draws :]
        dy, dr = self.integrand(*drawn, with_args(self.f, of_f), t, self.nested(state[:-1]))
        parts = self.parts(dy)
        return *parts, dr.to(parts[0].dtype)

    def parts(self, nested: Any) -> tuple[Tensor, ...]:
        """The tensors of y, or of what is nested as y is, in y's order."""
        return tuple(nested[key] for key in self.pattern) if isinstance(nested, dict) else tuple(tensors_in(nested))

    def nested(self, parts: Sequence[Tensor]) -> Any:
        """The inverse of ``parts``."""
        left = iter(parts)
        return map_tensors(lambda y: next(left), self.pattern)


@dataclass(frozen=True)
class OfPart:
    """The norm of the first ``count`` of every ``of`` numbers: of a batch's state, or of one sample's."""

    norm: Norm
    count: int
    of: int

    def __call__(self, v: Tensor) -> Tensor:
        return self.norm(v[..., : v.shape[-1] * self.count // self.of])


def drawn_by(integrand: Integrand) -> tuple[Tensor, ...]:
    """The tensors that an integrand has drawn for one solve: the arguments of a ``functools.partial``."""
    if not isinstance(integrand, partial) or integrand.keywords:
        return ()
    return integrand.args if all(isinstance(x, Tensor) for x in integrand.args) else ()


def lasting(integrand: Integrand) -> Integrand:
    """What stays of an integrand from solve to solve: a function of what was drawn, then f, t and y."""
    return integrand.func if isinstance(integrand, partial) and drawn_by(integrand) else integrand


def of_point(integrand: Integrand, velocity: Field) -> Integrand:
    """An integrand of y [B, ...] for a state (y, ...), of which y moves with ``velocity``."""
    function = OfPoint(lasting(integrand), velocity)
    drawn = drawn_by(integrand)
    return partial(function, *drawn) if drawn else function


@dataclass(frozen=True)
class OfPoint:
    """Its first call of the field is one of the whole state's, so that f is called once for both.

    Any other, for instance for a derivative along the flow, is one of the velocity.
    """

    integrand: Integrand
    velocity: Field

    def __call__(self, *inputs: Any) -> tuple[Any, Tensor]:
        *drawn, f, t, (y, *others) = inputs
        found: list[tuple[Tensor, ...]] = []

        def field(t: Tensor, y: Tensor) -> Tensor:
            if found:
                return self.velocity(t, y)
            found.append(f(t, (y, *others)))
            return found[0][0]

        _, dr = self.integrand(*drawn, field, t, y)
        derivative = found[0] if torch.is_grad_enabled() else map_tensors(Tensor.detach, found[0])
        return derivative, dr


def with_args(f: Callable[..., Any], args: tuple[Any, ...]) -> Field:
    """f(t, y, *args) as a function of t and y."""
    return (lambda t, y: f(t, y, *args)) if args else f


def mean_square(v: Tensor) -> Tensor:
    """[B] of [B, ...]."""
    return v.flatten(1).square().mean(1)


def require_tensor(regularizer: object, y0: Any) -> None:
    """Raise TypeError for a nested state: which of its parts a penalty is about, only its author can say."""
    if not isinstance(y0, Tensor):
        raise TypeError(
            f"{type(regularizer).__name__} takes a state that is one tensor, not {type(y0).__name__}; a regularizer of "
            "your own (class:) can pick the part that it penalizes"
        )
