"""The vector field as a solver sees it: flat, counted, checked, in the caller's autocast state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from noderun.ode.solvers.state import Layout
from noderun.ode.solvers.times import UNBOUNDED, Bounds, stage_times
from noderun.ode.solvers.torch_internals import under_transform, version_of, was_written

Integrand = Tensor  # [P] at one point, of an integral beside the state, for instance the parameters' vjp

IN_PLACE = (
    "f changes y in place (relu_(y), y += ..., y[0] = ...), so that the solve would go on from another state: "
    "let f compute on a copy, for instance y.clone()"
)


class Autocast:
    """The autocast state in which a solve was called: f runs in it, the solver's own arithmetic does not."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.enabled = torch.is_autocast_enabled(device)
        self.dtype = torch.get_autocast_dtype(device) if self.enabled else None
        self.cached: bool | None = None  # whether weights are rounded once for a region; None: as torch is set

    def without_cache(self) -> Autocast:
        """The same state, in which each call rounds f's weights again: a graph must read them, not a rounded copy."""
        own = copy.copy(self)
        own.cached = False
        return own

    def inside(self) -> AbstractContextManager[Any]:
        if not self.enabled:
            return nullcontext()
        return torch.autocast(self.device, dtype=self.dtype, cache_enabled=self.cached)

    def outside(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device, enabled=False) if self.enabled else nullcontext()


@contextmanager
def unchanged(y: Tensor) -> Iterator[None]:
    """Raise ValueError if y is changed in place inside, and restore it."""
    if under_transform():
        yield
        return
    before, version = y.detach().clone(), version_of(y)
    try:
        yield
    except RuntimeError as error:  # if y is a leaf, autograd refuses first
        if "in-place operation" in str(error):
            raise ValueError(IN_PLACE) from error
        raise
    if was_written(y, before, version):
        with torch.no_grad():
            y.copy_(before)
        raise ValueError(IN_PLACE)


def recorded(y: Tensor) -> bool:
    """Whether autograd follows what is computed from y."""
    return y.requires_grad and torch.is_grad_enabled()


class Field(Protocol):
    """dy/dt on flat states [N], and the integrand beside them at the last point evaluated."""

    layout: Layout
    bounds: Bounds  # the times between which it may be called
    integrand: Integrand | None
    has_quadrature: bool  # whether calls with ``in_quadrature`` set ``integrand``
    factorizations: int

    def __call__(self, t: Tensor, y: Tensor, in_quadrature: bool = True) -> Tensor: ...

    def target(self, out: Tensor) -> Tensor: ...

    def into(self, target: Tensor, t: Tensor, y: Tensor, in_quadrature: bool = True) -> None: ...

    def linearize(self, t: Tensor, y: Tensor) -> Tensor: ...


class VectorField:
    """dy/dt = f(t, y, *args) on flat states [N]; ``nfe`` counts the calls of f, except those of ``linearize``."""

    has_quadrature = False

    def __init__(self, f: Callable[..., Any], layout: Layout, args: tuple[Any, ...], autocast: Autocast) -> None:
        self.f, self.layout, self.args, self.autocast = f, layout, args, autocast
        self.nfe = self.jacobians = self.factorizations = 0
        self.integrand: Integrand | None = None
        self.first = True  # f was not called yet
        self.differentiates = False  # f takes a gradient inside, so it is called with autograd on, at a leaf
        self.known: tuple[Tensor, list[Tensor]] | None = None  # y at the start and f there, if it was called before
        self.witness: tuple[float, Tensor] | None = None  # t and f's fingerprint at it
        self.kept = False  # whether a compiled solve keeps f at its end as the ``witness``
        self.bounds = UNBOUNDED  # until a problem sets its interval
        self.graphs: dict[Any, Any] = {}  # found for this solve, by what they are of
        self.replaced = False  # f is not the caller's own object, but made for one backward pass
        plain = layout.single and not layout.pairs and not autocast.enabled
        self.shape = layout.shapes[0] if plain else None  # the shape of a state as f takes it, if it is one tensor

    def leaves(self, t: Tensor, y: Tensor) -> list[Tensor]:
        """f(t, y, *args) as tensors of the state's shapes."""
        self.nfe += 1
        if self.first:
            return self.called_first(t, y)
        try:
            return self.called(t, y)
        except RuntimeError as error:
            return self.retried(t, y, error)

    def called(self, t: Tensor, y: Tensor) -> list[Tensor]:
        if self.differentiates and not recorded(y):
            return self.called_at_leaf(t, y)
        state = self.layout.unflatten(y)
        if not self.autocast.enabled:
            return self.layout.leaves(self.f(t, state, *self.args))
        with self.autocast.inside():
            return self.layout.leaves(self.f(t, state, *self.args))

    def called_first(self, t: Tensor, y: Tensor) -> list[Tensor]:
        self.first = False
        known, self.known = self.known, None
        if known is not None and known[0].data_ptr() == y.data_ptr() and not torch.is_grad_enabled():
            return known[1]
        with unchanged(y):
            try:
                return self.called(t, y)
            except RuntimeError as error:
                return self.retried(t, y, error)

    def called_at_leaf(self, t: Tensor, y: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            state = self.layout.unflatten(y.detach().requires_grad_())
            with self.autocast.inside():
                leaves = self.layout.leaves(self.f(t, state, *self.args))
        return leaves if torch.is_grad_enabled() else [leaf.detach() for leaf in leaves]

    def retried(self, t: Tensor, y: Tensor, error: RuntimeError) -> list[Tensor]:
        """f with autograd on at a y that requires gradients, which an f that differentiates inside may need."""
        if recorded(y) or self.differentiates:
            raise error
        try:
            leaves = self.called_at_leaf(t, y)
        except Exception:
            raise error from None
        self.differentiates = True
        return leaves

    def __call__(self, t: Tensor, y: Tensor, in_quadrature: bool = True) -> Tensor:
        """dy/dt [N] in y's dtype; ``in_quadrature``: whether this point counts in integrals beside the state."""
        leaves = self.leaves(t, y)
        flat = leaves[0].reshape(-1) if len(leaves) == 1 else torch.cat([leaf.reshape(-1) for leaf in leaves])
        return flat.to(y.dtype)

    def linearize(self, t: Tensor, y: Tensor) -> Tensor:
        """f(t, y) [N] with a graph to y, for a Jacobian: counted as one Jacobian evaluation, as others do."""
        self.jacobians += 1
        self.nfe -= 1
        return self(t, y, False)

    def target(self, out: Tensor) -> Tensor:
        """A view of out [N] for ``into``: in the state's shape if it is one tensor."""
        return out.view(self.shape) if self.shape else out

    def into(self, target: Tensor, t: Tensor, y: Tensor, in_quadrature: bool = True) -> None:
        """The same, written without an intermediate copy."""
        shape = self.shape
        if shape and not (self.first or self.differentiates):  # the usual case, in as few calls as possible
            self.nfe += 1
            try:
                slope = self.f(t, y.view(*shape), *self.args)
            except RuntimeError as error:
                (slope,) = self.retried(t, y, error)
            if not (isinstance(slope, Tensor) and slope.shape == shape):
                self.layout.leaves(slope)  # says what is wrong
            target.copy_(slope)
            return
        parts = [target] if shape else self.layout.split(target)
        for part, leaf in zip(parts, self.leaves(t, y), strict=True):
            part.copy_(leaf)


def evaluate(field: VectorField, t: float, y: Tensor) -> Tensor:
    """f [N] at a time of the host and y [N], without history."""
    with torch.no_grad():
        return field(stage_times(t, 0.0, (0.0,), y, field.bounds)[0], y.detach())


def fingerprint(value: Tensor) -> Tensor:
    """The norm and the sum [2] of f's value, by which a later call at the same point is compared with it."""
    flat = torch.view_as_real(value).reshape(-1) if value.is_complex() else value.reshape(-1)
    return torch.stack([torch.linalg.vector_norm(flat), flat.sum()])
