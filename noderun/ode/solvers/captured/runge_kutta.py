"""Explicit Runge-Kutta methods on a GPU: attempts, and steps of the backward pass, as CUDA graphs to be replayed."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from noderun.ode.solvers.captured.capture import Captures
from noderun.ode.solvers.captured.graph import CapturedGraphs
from noderun.ode.solvers.captured.identity import held, impurity, owner_of, settings
from noderun.ode.solvers.captured.samples import CapturedSamples
from noderun.ode.solvers.field import Field, VectorField, evaluate
from noderun.ode.solvers.graphed import GraphedRungeKutta
from noderun.ode.solvers.nesting import map_tensors
from noderun.ode.solvers.per_sample.field import SampleField
from noderun.ode.solvers.per_sample.problem import SampleProblem
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.torch_internals import operations_are_watched

KEPT = 16  # kinds of solves of one f; the one that was asked for longest ago goes first
Kinds = OrderedDict[Any, Any]  # None: asked for once
Captured = TypeVar("Captured", bound=Captures)
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
            field.graphs[adjoint] = None if operations_are_watched() else self.graphs_asked_for(field, y, adjoint)
        found: CapturedGraphs | None = field.graphs[adjoint]
        return None if found is None or found.failed else found

    def graphs_asked_for(self, field: VectorField, y: Tensor, adjoint: Any) -> CapturedGraphs | None:
        probe, t, size = copy.copy(field), float(field.bounds.low), sum(field.layout.sizes)
        return self.asked_for(
            field,
            y,
            adjoint,
            lambda: CapturedGraphs(self.original, field, adjoint, self.compiles_f),
            lambda: evaluate(probe, t, y[:size]),
        )

    def sample_graphs(self, problem: SampleProblem) -> CapturedSamples | None:
        """What is replayed for samples with steps of their own; None if their rounds are eager."""
        field, control = problem.field, problem.control
        # Outputs inside steps would need a stage that the attempts have not.
        lacking = bool(self.tableau.dense_a) or (self.tableau.fsal and control.fixed)
        by_component = isinstance(control.rtol, Tensor) or isinstance(control.atol, Tensor)
        if problem.events or problem.fractions or control.jumps or by_component or type(field) is not SampleField:
            return None
        if (lacking and problem.ts.shape[1] > 2) or not len(problem.y0) or operations_are_watched():
            return None
        if "samples" not in field.graphs:
            kind = ("samples", problem.y0.shape, problem.ts.shape, field.sign is None, held(vars(control)))
            probe = functools.partial(field.of(None), problem.ts[:, 0], problem.y0.detach())
            make = functools.partial(CapturedSamples, self.original, problem)
            field.graphs["samples"] = self.asked_for(field, problem.y0, kind, make, probe)
        found: CapturedSamples | None = field.graphs["samples"]
        return None if found is None or found.failed else found

    def asked_for(
        self,
        field: VectorField | SampleField,
        y: Tensor,
        kind: Any,
        make: Callable[[], Captured],
        probe: Callable[[], Any],
    ) -> Captured | None:
        """What is replayed for f as it is now; None if asked for the first time, or if f has nothing replayed.

        ``probe`` calls f.
        """
        own, call = owner_of(field.f)
        try:
            kinds = GRAPHS.setdefault(own, OrderedDict())
        except TypeError:  # an object without weak references
            return None
        layout, autocast = field.layout, field.autocast
        args: Any = map_tensors(lambda x: (x.shape, x.dtype), field.args)  # type: ignore[arg-type, return-value]
        function = (getattr(call, "__code__", None), held(own), held(args), autocast.enabled, autocast.dtype)
        state = (layout.shapes, layout.keys, y.dtype, y.device)
        key = (*function, *state, settings(), kind, id(self.tableau))
        if key not in kinds:
            kinds[key] = None
            if len(kinds) > KEPT:
                kinds.popitem(last=False)
            return None
        kinds.move_to_end(key)
        if kinds[key] is None:
            with torch.inference_mode(False), torch.no_grad():
                made = kinds[key] = make()
            if (why := impurity(field.f, probe, y.device)) is not None:
                made.fail(why)
        return kinds[key]


@functools.cache
def captured(method: ExplicitRungeKutta, compiles: bool = False) -> CapturedRungeKutta:
    return CapturedRungeKutta(method, compiles)
