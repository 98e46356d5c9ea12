"""The vector field as a solver sees it: flat, counted, checked, in the caller's autocast state."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from noderun.solvers.state import Layout
from noderun.solvers.times import UNBOUNDED, Bounds

Integrand = list[Tensor]  # what is integrated beside the state at one point, for instance the parameters' vjp

HIDDEN = (
    "f uses tensors that require gradients but is no Module, so they cannot be found: "
    "name them with params=, or use gradient='backprop'"
)


class Autocast:
    """The autocast state where a solve was called: f runs in it, the solver's own arithmetic does not."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.enabled = torch.is_autocast_enabled(device)
        self.dtype = torch.get_autocast_dtype(device) if self.enabled else None

    def inside(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device, dtype=self.dtype) if self.enabled else nullcontext()

    def outside(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device, enabled=False) if self.enabled else nullcontext()


class Field(Protocol):
    """dy/dt on flat states [N], and what is integrated beside them at the last point evaluated."""

    layout: Layout
    bounds: Bounds  # between which times it may be called
    integrand: Integrand | None
    weighs: bool  # whether calls with ``weighted`` set ``integrand``
    factorizations: int

    def __call__(self, t: Tensor, y: Tensor, weighted: bool = True) -> Tensor: ...

    def target(self, out: Tensor) -> Tensor: ...

    def into(self, target: Tensor, t: Tensor, y: Tensor, weighted: bool = True) -> None: ...

    def linearize(self, t: Tensor, y: Tensor) -> Tensor: ...


class VectorField:
    """dy/dt = f(t, y, *args) on flat states [N]; ``nfe`` counts the calls of f but for those of ``linearize``."""

    weighs = False

    def __init__(self, f: Callable[..., Any], layout: Layout, args: tuple[Any, ...], autocast: Autocast) -> None:
        self.f, self.layout, self.args, self.autocast = f, layout, args, autocast
        self.nfe = self.jacobians = self.factorizations = 0
        self.integrand: Integrand | None = None
        self.closed = False  # f is a closure: whether it hides parameters is looked up in its first call
        self.bounds = UNBOUNDED  # until a problem says what its interval is
        self.replaced = False  # f is not the caller's own object, but made for one backward pass
        plain = layout.single and not layout.pairs and not autocast.enabled
        self.shape = layout.shapes[0] if plain else None  # of a state as f takes it

    def leaves(self, t: Tensor, y: Tensor) -> list[Tensor]:
        """f(t, y, *args) as tensors of the state's shapes."""
        self.nfe += 1
        if self.closed:
            return self.opened(t, y)
        state = self.layout.unflatten(y)
        if not self.autocast.enabled:
            return self.layout.leaves(self.f(t, state, *self.args))
        with self.autocast.inside():
            return self.layout.leaves(self.f(t, state, *self.args))

    def opened(self, t: Tensor, y: Tensor) -> list[Tensor]:
        """The same under autograd: a gradient through a closure's own parameters would be lost without a word."""
        self.closed = False
        with torch.enable_grad(), self.autocast.inside():
            leaves = self.layout.leaves(self.f(t, self.layout.unflatten(y.detach()), *self.args))
        argued = any(isinstance(x, Tensor) and x.requires_grad for x in tree_leaves(self.args))
        if any(leaf.requires_grad for leaf in leaves) and not argued:
            raise ValueError(HIDDEN)
        return [leaf.detach() for leaf in leaves]

    def __call__(self, t: Tensor, y: Tensor, weighted: bool = True) -> Tensor:
        """dy/dt [N] in y's dtype; ``weighted``: whether this point counts in the integrals beside the state."""
        leaves = self.leaves(t, y)
        flat = leaves[0].reshape(-1) if len(leaves) == 1 else torch.cat([leaf.reshape(-1) for leaf in leaves])
        return flat.to(y.dtype)

    def linearize(self, t: Tensor, y: Tensor) -> Tensor:
        """f(t, y) [N] with a graph to y, for a Jacobian: counted as one Jacobian evaluation, as others do."""
        if self.closed:
            self.opened(t, y)
        self.jacobians += 1
        self.nfe -= 1
        return self(t, y, False)

    def target(self, out: Tensor) -> Tensor:
        """A view of out [N] for ``into``: in the state's shape where that is one tensor's."""
        return out.view(self.shape) if self.shape else out

    def into(self, target: Tensor, t: Tensor, y: Tensor, weighted: bool = True) -> None:
        """The same, written without an intermediate copy."""
        shape = self.shape
        if shape and not self.closed:  # the usual case, in as few calls as can be
            self.nfe += 1
            slope = self.f(t, y.view(*shape), *self.args)
            if not (isinstance(slope, Tensor) and slope.shape == shape):
                self.layout.leaves(slope)  # says what is wrong
            target.copy_(slope)
            return
        parts = [target] if shape else self.layout.split(target)
        for part, leaf in zip(parts, self.leaves(t, y), strict=True):
            part.copy_(leaf)
