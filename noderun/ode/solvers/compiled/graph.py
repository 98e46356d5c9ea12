"""The graphs of one f under torch.compile: their calls, their checks, and what is refused."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.compiled.backward_loop import make_backward_loop, steps_per_call
from noderun.ode.solvers.compiled.check import FEW, FollowedRecord, check_backward, check_loop, check_step, python_loop
from noderun.ode.solvers.compiled.loop import LEFT, attempts_per_call, make_loop
from noderun.ode.solvers.compiled.lowering import lowering, small_products
from noderun.ode.solvers.compiled.traced import (
    TracedStep,
    adjoint_function,
    flat_function,
    named_function,
    step_function,
)
from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.device_control import tolerances
from noderun.ode.solvers.field import Autocast, VectorField
from noderun.ode.solvers.graphed import Known, LoopResult, PulledBack, Start
from noderun.ode.solvers.nesting import tensors_in
from noderun.ode.solvers.state import Layout
from noderun.ode.solvers.tableau import ButcherTableau
from noderun.ode.solvers.torch_internals import (
    OperationMode,
    code_of,
    hit_recompile_limit,
    loop,
    quiet_compiler,
    without_data,
    written_to,
)

TF32 = 2.0**-10  # eps of the numbers that a GPU may multiply in place of float32


class Graph:
    """The compiled step, many attempts of it, and many steps pulled back.

    Each is called with the numbers of a solve, and compared with eager steps when it was made. ``failed`` is the reason
    if there can be none, ``compilations`` counts compilations. ``loops`` says whether one call makes many attempts, by
    the number of rows that each leaves; ``steps_per_backward`` is the number of steps that one call pulls back, by
    whether outputs lie inside the steps.
    """

    def __init__(
        self, tableau: ButcherTableau, order: int, layout: Layout, autocast: Autocast, adjoint: bool = False
    ) -> None:
        self.failed: str | None = None
        self.alone: str | None = None  # the reason if there is no loop over steps, until a warning gave it
        self.compilations = 0
        self.examined = False
        self.eps = 0.0  # the largest eps of the dtypes that f computes with
        self.adjoint = adjoint
        size = sum(layout.sizes) * (2 if adjoint else 1)
        self.loops = {rows: attempts_per_call(tableau, size, rows) > 0 for rows in (0, 1, tableau.stages + 1)}
        self.steps_per_backward = {inside: steps_per_call(tableau, size, inside) for inside in (False, True)}
        function = (adjoint_function if adjoint else flat_function)(layout, autocast)
        self.make_loop = functools.partial(make_loop, tableau, order, function)
        self.make_backward = functools.partial(make_backward_loop, tableau, named_function(layout, autocast))
        self.functions: dict[str, Callable[..., Any]] = {
            "loop": self.make_loop(loop),
            "step": step_function(tableau, function),
            "backward": self.make_backward(loop),
        }
        self.compiled: dict[str, Callable[..., Any]] = {}

    def step(
        self,
        field: VectorField,
        control: StepOptions,
        t: float,
        h: float,
        y: Tensor,
        slope: Tensor | None,
        estimate: bool,
    ) -> TracedStep | None:
        """None if it could not be compiled, with a warning that says why."""
        found: TracedStep | None = self.call(
            "step", field, control, (t, h), y, slope, control.norm if estimate else None
        )
        return found

    def run_loop(self, start: Start, numbers: Sequence[float], known: Known, choose: bool) -> LoopResult | None:
        """A loop requires more of f than a step (it writes to nothing, and its tensors share no memory)."""
        if not self.loops[start.rows]:
            return None
        control, params = start.control, start.params
        beside = (start.controlled, start.totals, tuple(params), tuple(params.values()))
        choices = (control.norm, control.controller, choose, start.rows, *beside)
        try:
            result = self.run("loop", start.field, control, numbers, start.y, known, *choices)
        except Exception as error:
            if self.adjoint:  # whose steps have no graph alone
                self.fail(f"the adjoint's loop was refused ({reason(error)})")
            self.loops = dict.fromkeys(self.loops, False)
            self.refuse_back(error)  # the same loop: one warning is enough
            return None
        y, slope, record, found, *integrals = result
        return y, slope, record, found.tolist(), *integrals

    def run_fixed(self, start: Start, moves: Sequence[tuple[float, float]]) -> None:
        """Fixed steps are made one by one."""

    def pull_back(
        self,
        field: VectorField,
        control: StepOptions,
        moves: Sequence[tuple[float, float]],
        starts: Sequence[Tensor],
        a: Tensor,
        cotangents: Tensor | None,
        params: Mapping[str, Tensor],
    ) -> PulledBack | None:
        """dL/dy and dL/dtheta of steps (t, h), see ``make_backward_loop``; None if autograd has to."""
        room = self.steps_per_backward[cotangents is not None]
        given = a.new_empty(room, len(a))
        torch.stack(list(starts), out=given[: len(starts)])
        if cotangents is not None:
            cotangents = torch.cat([cotangents, cotangents.new_empty(room - len(moves), *cotangents.shape[1:])])
        empty = (0.0, 0.0) * (room - len(moves))
        numbers = (len(moves), *(x for move in moves for x in move), *empty)
        named = (tuple(params), tuple(params.values()))
        try:
            with torch.no_grad():
                pulled: PulledBack = self.run("backward", field, control, numbers, given, a, cotangents, *named)
        except Exception as error:
            self.refuse_back(error)
            return None
        return pulled

    def refuse_back(self, error: Exception) -> None:
        self.steps_per_backward, self.alone = dict.fromkeys(self.steps_per_backward, 0), reason(error)

    def call(
        self, name: str, field: VectorField, control: StepOptions, numbers: Sequence[float], y: Tensor, *rest: Any
    ) -> Any:
        try:
            found = self.run(name, field, control, numbers, y, *rest)
        except Exception as error:  # of the compiler; an eager step raises again what f raises itself
            self.fail(reason(error))
            return None
        if self.alone is not None:
            warnings.warn(f"compile=True makes steps of this f one by one: {self.alone}", stacklevel=2)
            self.alone = None
        return found

    def run(
        self, name: str, field: VectorField, control: StepOptions, numbers: Sequence[float], y: Tensor, *rest: Any
    ) -> Any:
        tolerances = (control.rtol, control.atol)
        scalars = [*numbers, *(0.0 if isinstance(x, Tensor) else x for x in tolerances)]
        given = [x if isinstance(x, Tensor) else None for x in tolerances]
        packed = torch.tensor(scalars, dtype=torch.float64).to(y.device, non_blocking=True)
        if name not in self.compiled:
            function = own_code(self.functions[name])
            self.compiled[name] = torch.compile(function, fullgraph=True, dynamic=False, backend=self.backend)
        before, call = self.compilations, (field.f, field.args, packed, given, y, *rest)
        with tracing(y):
            found = self.compiled[name](*call)
        if self.compilations > before:
            with torch.no_grad():
                self.check(name, found, *call)
        return found

    def check(
        self, name: str, found: Any, f: Any, args: Any, numbers: Tensor, given: list[Any], y: Tensor, *rest: Any
    ) -> None:
        """Compare a new graph with eager steps; raises GraphMismatch. Its calls of f are not part of the solve."""
        eps, within = max(self.eps, TF32 if y.is_cuda else 0.0), tolerances(numbers, given)
        if name == "step":
            expected = self.functions["step"](f, args, numbers, given, y, *rest)
            check_step(found, expected, eps, numbers[1], within, y)
            return
        few = numbers.clone()
        few[LEFT if name == "loop" else 0].clamp_(max=FEW)
        call = (f, args, few, given, y, *rest)
        found = self.compiled[name](*call)
        if name == "loop":
            recorded = FollowedRecord(found, eps, within)
            check_loop(found, self.make_loop(python_loop, recorded)(*call), recorded, y)
        else:
            check_backward(found, self.make_backward(python_loop)(*call), eps, a=rest[0])

    def backend(self, module: torch.fx.GraphModule, inputs: Sequence[Any]) -> Any:
        self.compilations += 1
        with quiet_compiler():
            self.eps = max(self.eps, check_pure(module, inputs))
            options, table = lowering(inputs), small_products()
            try:
                return code_of(module, inputs, options, table)
            except Exception:  # torch 2.11 loses count of the buffers that a loop's body may use again
                return code_of(module, inputs, options | {"allow_buffer_reuse": False}, table)

    def fail(self, why: str) -> None:
        self.failed = why
        warnings.warn(f"compile=True has no effect here: {why}; steps of this f are not compiled", stacklevel=2)


def own_code(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its own code object, by which the compiler counts recompilations and looks graphs up."""
    assert isinstance(function, FunctionType)
    code = function.__code__.replace()
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


class ImpureFunction(RuntimeError):
    """f does more than compute a value from its arguments, so running its graph would not be the same as calling it."""


class PurityCheck(OperationMode):
    """Runs a graph on tensors without data, refuses what a step must not do twice, and notes the largest ``eps``."""

    supports_higher_order_operators = True

    def __init__(self, inputs: Sequence[Any]) -> None:
        super().__init__()
        self.inputs = [x.untyped_storage() for x in tensors_in(list(inputs))]
        self.eps = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.higher_order.while_loop:  # its body, once
            _, body, carried, captured = args
            with self:
                return body(*carried, *captured)
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise ImpureFunction("f draws random numbers")
        for value in written_to(func, args):
            if any(value.untyped_storage() is storage for storage in self.inputs):
                raise ImpureFunction("f writes to its buffers or its arguments")
        out = func(*args, **(kwargs or {}))
        for x in tensors_in(out):
            if x.is_floating_point():
                self.eps = max(self.eps, torch.finfo(x.dtype).eps)
        return out


def check_pure(module: torch.fx.GraphModule, inputs: Sequence[Any]) -> float:
    """Raise ImpureFunction if the graph does more than compute values; return the largest eps of these.

    It is run on tensors without data, parameters included.
    """
    mode, fakes = without_data(inputs)
    with torch.no_grad(), mode, PurityCheck(fakes) as watched:
        module(*fakes)
    return watched.eps


def tracing(y: Tensor) -> AbstractContextManager[Any]:
    """Suppress the warning that tracing emits if an input is a non-leaf tensor."""
    return warnings.catch_warnings(action="ignore") if y.requires_grad else nullcontext()


def reason(error: BaseException) -> str:
    """The first sentence of an error, without the compiler's own wrapping."""
    if hit_recompile_limit(error):
        return "f depends on values other than tensors that change, and each change would be compiled anew"
    inner = getattr(error, "inner_exception", None) or error
    text = str(inner).partition("Got graph break/error:")[2] or str(inner)  # in a loop the cause follows this
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(inner).__name__
