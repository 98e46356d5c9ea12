"""An explicit Runge-Kutta step as one compiled graph: every stage with f traced into it, y1 and the error's norm.

This is the single step, for solves that autograd records or that something observes; ``loop`` makes many in one call.
Either way the host decides on each attempt as in an eager solve, so that the accepted steps are the same to round-off.
If f cannot be traced, draws noise or changes its own state, or if the machine has no compiler, there is one warning,
and steps stay eager.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from noderun.ode.solvers.compiled.graph import Graph
from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.field import Field, VectorField
from noderun.ode.solvers.graphed import GraphedRungeKutta, Graphs
from noderun.ode.solvers.method import Step
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.stages import Stages, Table
from noderun.ode.solvers.tableau import combined
from noderun.ode.solvers.torch_internals import operations_are_watched

GRAPHS: WeakKeyDictionary[Any, dict[Any, Graph]] = WeakKeyDictionary()  # per f


class CompiledStages(Stages):
    """The eager work space, which takes over the stages of compiled steps, so that all other code finds them there."""

    norms: Tensor | None = None  # of the error estimates [m], if the current step was compiled

    def __init__(self, count: int, y: Tensor, table: Table) -> None:
        super().__init__(count, y, table)
        self.forms: Counter[tuple[bool, ...]] = Counter()  # how often each form of step was compiled in this solve

    def take(self, ks: Tensor) -> None:
        """k_(s-1), ..., k_0 [s, N]."""
        n = len(ks)
        self.rows[self.count - n : self.count].copy_(ks.detach())
        if self.recording:
            self.graph[:n] = ks.unbind()[::-1]


class CompiledRungeKutta(GraphedRungeKutta):
    """The same method with its steps compiled for each f, state's layout and autocast state."""

    def graphs(self, field: Field, y: Tensor, adjoint: Any = None) -> Graph | None:
        return graph_of(self, field, y, adjoint is not None)

    def graphs_to_differentiate(self, field: VectorField, y: Tensor) -> Graphs | None:
        field.kept = True  # the graphs store f's value at the end, which the backward pass compares
        return super().graphs_to_differentiate(field, y)

    def start(self, y: Tensor) -> CompiledStages:
        return CompiledStages(self.tableau.stages + len(self.tableau.dense_c), y, self.table(y))

    def step(self, field: Field, t: float, y: Tensor, h: float, work: Stages, estimate: bool) -> Step:
        assert isinstance(work, CompiledStages)
        work.norms = None
        graph = graph_of(self, field, y) if not work.transformed else None
        if graph is not None and isinstance(field, VectorField) and self.control is not None:
            slope = (work.graph[0] if work.recording else work.ks[0]) if work.known else None
            state = y if work.recording else y.detach()
            before, form = graph.compilations, (slope is None, estimate, state.requires_grad, state.is_inference())
            found = graph.step(field, self.control, t, h, state, slope, estimate)
            if found is not None:
                work.forms[form] += graph.compilations - before
                if work.forms[form] > 2:
                    graph.fail("f's own state changes from call to call")
                y1, ks, work.norms = found
                field.nfe += len(ks) - (slope is not None)
                work.take(ks)
                return self.attempted(field, t, y, h, work, y1, work.norms)
        return super().step(field, t, y, h, work, estimate)

    def ratio(self, work: Stages, control: StepOptions, step: Step) -> float:
        assert isinstance(work, CompiledStages)
        if work.norms is None:
            return super().ratio(work, control, step)
        norms = work.norms.tolist()
        return float(combined(*norms) if self.tableau.low_error else norms[0])

    def complete(self, field: Field, t: Any, y: Tensor, h: Any, work: Stages, y1: Tensor) -> None:
        if not work.complete:
            work.begin(y, h)
        super().complete(field, t, y, h, work, y1)


@functools.cache
def compiled(method: ExplicitRungeKutta) -> CompiledRungeKutta:
    return CompiledRungeKutta(method)


def graph_of(method: ExplicitRungeKutta, field: Field, y: Tensor, adjoint: bool = False) -> Graph | None:
    """The graphs of a field, or of its adjoint; None if steps are eager."""
    if not isinstance(field, VectorField) or field.replaced:
        return None
    if operations_are_watched():  # the compiler leaves such calls alone
        return None
    graphs = GRAPHS.setdefault(identity(field.f), {})
    layout, autocast = field.layout, field.autocast
    # The graph holds the tableau, whose id is therefore unique, and whose hash would take microseconds per step.
    key = (adjoint, id(method.tableau), layout.shapes, layout.keys, y.dtype, y.device, autocast.enabled, autocast.dtype)
    graph = graphs.get(key)
    if graph is None:
        graph = graphs[key] = Graph(method.tableau, method.error_order, layout, autocast, adjoint)
        if y.is_complex():
            graph.fail("the compiler makes no code for complex states")
    return None if graph.failed else graph


def identity(f: Callable[..., Any]) -> Any:
    """An object that stays the same if a caller makes its function anew for every solve; guards tell the rest apart."""
    while isinstance(f, functools.partial):
        f = f.func
    if isinstance(f, nn.Module):
        return f
    f = getattr(f, "__func__", f)
    return getattr(f, "__code__", type(f))
