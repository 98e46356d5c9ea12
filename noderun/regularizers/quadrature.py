"""The state y and a quadrature r beside it as one vector field, which every gradient method can differentiate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noderun.ode.solvers.control import Norm, rms
from noderun.ode.solvers.nesting import map_tensors, tensors_in

Field = Callable[[Tensor, Any], Any]
Integrand = Callable[[Field, Tensor, Any], tuple[Any, Tensor]]
Regularizer = Callable[[Any], Integrand]


class Quadrature(nn.Module):
    """d(y, r)/dt = (f(t, y, *args), integrand) for any state y and r [B]; a Module, so that f's parameters are found.

    y is a tensor [B, ...], or a tuple or dict of such. A solve does not nest deeper, so its state is ``start``: the
    tensors of y side by side, then r. ``norm_of_y`` is the solve's error norm without r.
    """

    def __init__(self, f: nn.Module, integrand: Integrand, y0: Any, norm_of_y: Norm = rms) -> None:
        super().__init__()
        self.f = f
        self.integrand = integrand
        self.norm_of_y = norm_of_y
        self.pattern = map_tensors(lambda y: y.new_empty(0), y0)
        tensors = self.parts(y0)
        self.size, self.batch = sum(y.numel() for y in tensors), len(tensors[0])
        self.start = (*tensors, tensors[0].new_zeros(self.batch))

    def forward(self, t: Tensor, state: tuple[Tensor, ...], *args: Tensor) -> tuple[Tensor, ...]:
        dy, dr = self.integrand(lambda t, y: self.f(t, y, *args), t, self.nested(state[:-1]))
        parts = self.parts(dy)
        return *parts, dr.to(parts[0].dtype)

    def parts(self, nested: Any) -> tuple[Tensor, ...]:
        """The tensors of y, or of what is nested as y is, in y's order."""
        return tuple(nested[key] for key in self.pattern) if isinstance(nested, dict) else tuple(tensors_in(nested))

    def nested(self, parts: Sequence[Tensor]) -> Any:
        """The inverse of ``parts``."""
        left = iter(parts)
        return map_tensors(lambda y: next(left), self.pattern)

    def norm(self, v: Tensor) -> Tensor:
        """The norm of y, which comes first in v: nothing depends on r, so it must not choose the steps.

        v [N] is the state of the whole batch, or of one sample if each has its own steps.
        """
        return self.norm_of_y(v[..., : v.shape[-1] * self.size // (self.size + self.batch)])


def of_point(integrand: Integrand, velocity: Field) -> Integrand:
    """An integrand of y [B, ...] for a state (y, ...), of which y moves with ``velocity``.

    Its first call of the field is one of the whole state's, so that f is called once for both; any other, for instance
    for a derivative along the flow, is one of the velocity.
    """

    def of_state(f: Field, t: Tensor, state: tuple[Tensor, ...]) -> tuple[Any, Tensor]:
        y, *others = state
        found: list[tuple[Tensor, ...]] = []

        def field(t: Tensor, y: Tensor) -> Tensor:
            if found:
                return velocity(t, y)
            found.append(f(t, (y, *others)))
            return found[0][0]

        _, dr = integrand(field, t, y)
        derivative = found[0] if torch.is_grad_enabled() else map_tensors(Tensor.detach, found[0])
        return derivative, dr

    return of_state


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
