"""Explicit Runge-Kutta methods on a GPU: attempts, and steps of the backward pass, as CUDA graphs to be replayed."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from noderun.ode.solvers.captured.graph import CapturedGraphs
from noderun.ode.solvers.captured.identity import held, impurity, owner_of, settings
from noderun.ode.solvers.field import Field, VectorField, evaluate
from noderun.ode.solvers.graphed import GraphedRungeKutta
from noderun.ode.solvers.nesting import map_tensors
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.torch_internals import operations_are_watched

KEPT = 16  # kinds of solves of one f; the one that was asked for longest ago goes first
Kinds = OrderedDict[Any, CapturedGraphs | None]  # None: asked for once
GRAPHS: WeakKeyDictionary[Any, Kinds] = WeakKeyDictionary()  # per f


class CapturedRungeKutta(GraphedRungeKutta):
    """The same method, replayed from its second solve with one f on, as long as f stays what it was.

    A first solve is eager: many a function is made for one solve, and a capture takes several times as long. With
    ``compiles`` f is compiled first.
    """

    def __init__(self, eager: ExplicitRungeKutta, compiles: bool = False) -> None:
        super().__init__(eager)
        self.compiles_f = compiles

    def graphs(self, field: Field, y: Tensor, adjoint: Any = None) -> CapturedGraphs | None:
        if not isinstance(field, VectorField) or field.replaced:
            return None
        if adjoint not in field.graphs:
            field.graphs[adjoint] = None if operations_are_watched() else self.asked_for(field, y, adjoint)
        found: CapturedGraphs | None = field.graphs[adjoint]
        return None if found is None or found.failed else found

    def asked_for(self, field: VectorField, y: Tensor, adjoint: Any) -> CapturedGraphs | None:
        """The graphs of f as it is now; None if they are asked for for the first time, or f can have none."""
        own, call = owner_of(field.f)
        try:
            kinds = GRAPHS.setdefault(own, OrderedDict())
        except TypeError:  # an object without weak references
            return None
        layout, autocast = field.layout, field.autocast
        args: Any = map_tensors(lambda x: (x.shape, x.dtype), field.args)  # type: ignore[arg-type, return-value]
        function = (getattr(call, "__code__", None), held(own), held(args), autocast.enabled, autocast.dtype)
        state = (layout.shapes, layout.keys, y.dtype, y.device)
        key = (*function, *state, settings(), adjoint, id(self.tableau))
        if key not in kinds:
            kinds[key] = None
            if len(kinds) > KEPT:
                kinds.popitem(last=False)
            return None
        kinds.move_to_end(key)
        if kinds[key] is None:
            with torch.inference_mode(False), torch.no_grad():
                graphs = kinds[key] = CapturedGraphs(self.original, field, adjoint, self.compiles_f)
            probe, t, size = copy.copy(field), float(field.bounds.low), sum(layout.sizes)
            if (why := impurity(field.f, lambda: evaluate(probe, t, y[:size]), y.device)) is not None:
                graphs.fail(why)
        return kinds[key]


@functools.cache
def captured(method: ExplicitRungeKutta, compiles: bool = False) -> CapturedRungeKutta:
    return CapturedRungeKutta(method, compiles)
