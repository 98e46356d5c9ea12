"""An explicit Runge-Kutta step as one compiled graph: every stage with f traced into it, y1 and the error's norm.

This is the step that goes alone, where autograd records it or something looks at it; ``walk`` makes many in one call.
Either way the host decides on each attempt as in an eager solve, so that the accepted steps are the same to round-off.
For an f that cannot be traced, that draws noise or changes its own state, and on a machine without a compiler there is
one warning, and steps stay eager.
"""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from noderun.ode.solvers.compiled.graph import Graph
from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.field import Field, VectorField
from noderun.ode.solvers.method import Method, Step
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.stages import Stages, Table
from noderun.ode.solvers.tableau import combined
from noderun.ode.solvers.torch_internals import operations_are_watched

GRAPHS: WeakKeyDictionary[Any, dict[Any, Graph]] = WeakKeyDictionary()  # of each f


class CompiledStages(Stages):
    """The eager work space, which takes the stages of compiled steps over, so that all else finds them there."""

    norms: Tensor | None = None  # of the error estimates [m], where the step in hand was compiled

    def __init__(self, count: int, y: Tensor, table: Table) -> None:
        super().__init__(count, y, table)
        self.forms: Counter[tuple[bool, ...]] = Counter()  # how often a form of step was compiled in this solve

    def take(self, ks: Tensor) -> None:
        """k_(s-1), ..., k_0 [s, N]."""
        n = len(ks)
        self.rows[self.count - n : self.count].copy_(ks.detach())
        if self.recording:
            self.graph[:n] = ks.unbind()[::-1]


class CompiledRungeKutta(ExplicitRungeKutta):
    """The same method with its steps compiled for each f, state's layout and autocast state."""

    compiles = True
    control: StepOptions | None = None

    def __init__(self, eager: ExplicitRungeKutta) -> None:
        super().__init__(eager.name, eager.tableau, eager.info.source, eager.info.description)
        self.original, self.error_order = eager, eager.error_order

    @property
    def eager(self) -> Method:
        return self.original

    def bound(self, control: StepOptions) -> CompiledRungeKutta:
        method = copy.copy(self)
        method.control = control
        return method

    def start(self, y: Tensor) -> CompiledStages:
        return CompiledStages(self.tableau.stages + len(self.tableau.dense_c), y, self.table(y))

    def attempt(
        self, field: Field, t: float, y: Tensor, h: float, work: Stages, evaluated: int, estimate: bool
    ) -> tuple[Tensor, Tensor | None]:
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
                field.nfe += evaluated - (slope is not None)
                y1, ks, work.norms = found
                work.take(ks)
                return y1, work.norms
        return super().attempt(field, t, y, h, work, evaluated, estimate)

    def ratio(self, work: Stages, control: StepOptions, step: Step) -> float:
        assert isinstance(work, CompiledStages)
        if work.norms is None:
            return self.original.ratio(work, control, step)
        norms = work.norms.tolist()
        return float(combined(*norms) if self.tableau.low_error else norms[0])

    def complete(self, field: Field, t: float, y: Tensor, h: float, work: Stages, y1: Tensor) -> None:
        if not work.complete:
            work.begin(y, h)
        super().complete(field, t, y, h, work, y1)


@functools.cache
def compiled(method: ExplicitRungeKutta) -> CompiledRungeKutta:
    return CompiledRungeKutta(method)


def graph_of(method: ExplicitRungeKutta, field: Field, y: Tensor, adjoint: bool = False) -> Graph | None:
    """The graphs of a field, or of its adjoint; None where steps are eager."""
    if not isinstance(field, VectorField) or field.replaced:
        return None
    if operations_are_watched():  # the compiler leaves such calls alone
        return None
    graphs = GRAPHS.setdefault(identity(field.f), {})
    layout, autocast = field.layout, field.autocast
    tableau = id(method.tableau)  # the graph keeps it alive, and a caller's own methods may bear any name
    key = (adjoint, tableau, layout.shapes, layout.keys, y.dtype, y.device, autocast.enabled, autocast.dtype)
    graph = graphs.get(key)
    if graph is None:
        graph = graphs[key] = Graph(method.tableau, method.error_order, layout, autocast, adjoint)
        if y.is_complex():
            graph.fail("the compiler makes no code for complex states")
    return None if graph.failed else graph


def first_look(method: ExplicitRungeKutta, field: VectorField, y: Tensor) -> bool:
    """Whether the field's graphs were not asked for this yet; True where it has none."""
    graph = graph_of(method, field, y)
    if graph is None or not graph.examined:
        if graph is not None:
            graph.examined = True
        return True
    return False


def identity(f: Callable[..., Any]) -> Any:
    """What stays the same where a caller makes its function anew for every solve; guards tell the rest apart."""
    while isinstance(f, functools.partial):
        f = f.func
    if isinstance(f, nn.Module):
        return f
    f = getattr(f, "__func__", f)
    return getattr(f, "__code__", type(f))
