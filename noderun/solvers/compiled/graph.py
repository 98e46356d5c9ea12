"""The graphs of one f under torch.compile: how they are called, and what is refused."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from noderun.solvers.compiled.back import Pulled, back_function, steps_at_once
from noderun.solvers.compiled.lowering import lowering, small_products
from noderun.solvers.compiled.traced import (
    Found,
    Shares,
    adjoint_function,
    flat_function,
    named_function,
    step_function,
)
from noderun.solvers.compiled.walk import Walked, attempts_at_once, walk_function
from noderun.solvers.control import Control
from noderun.solvers.field import Autocast, VectorField
from noderun.solvers.state import Layout
from noderun.solvers.tableau import ButcherTableau


class Graph:
    """The compiled step, many attempts of it, and many steps pulled back.

    Each is called with the numbers of a solve. ``failed`` says why there can be none, ``compilations`` how often
    something was compiled; ``walks`` whether one call makes many attempts and ``back_at_once`` how many steps one call
    pulls back, by whether outputs lie inside the steps.
    """

    def __init__(
        self, tableau: ButcherTableau, order: int, layout: Layout, autocast: Autocast, adjoint: bool = False
    ) -> None:
        self.failed: str | None = None
        self.alone: str | None = None  # why there is no loop over steps, until it was told
        self.compilations = 0
        self.adjoint = adjoint
        size = sum(layout.sizes) * (2 if adjoint else 1)
        self.walks = {inside: attempts_at_once(tableau, size, inside) > 0 for inside in (False, True)}
        self.back_at_once = {inside: steps_at_once(tableau, size, inside) for inside in (False, True)}
        function = (adjoint_function if adjoint else flat_function)(layout, autocast)
        self.functions: dict[str, Callable[..., Any]] = {
            "walk": walk_function(tableau, order, function),
            "step": step_function(tableau, function),
            "back": back_function(tableau, named_function(layout, autocast)),
        }
        self.compiled: dict[str, Callable[..., Any]] = {}

    def step(
        self, field: VectorField, control: Control, t: float, h: float, y: Tensor, slope: Tensor | None, estimate: bool
    ) -> Found | None:
        """None where it could not be compiled, with a warning that says why."""
        found: Found | None = self.call("step", field, control, (t, h), y, slope, control.norm if estimate else None)
        return found

    def walk(
        self,
        field: VectorField,
        control: Control,
        numbers: Sequence[float],
        y: Tensor,
        known: tuple[Tensor, Shares] | None,
        choose: bool,
        inside: bool,
        params: Mapping[str, Tensor],
    ) -> Walked | None:
        """Attempts from y on, by the ``numbers`` of ``walk_function``; None where steps go one by one.

        A loop asks more of f than a step does (that it writes to nothing, that its tensors share no memory).
        """
        if not self.walks[inside]:
            return None
        choices = (control.norm, control.controller, choose, inside, tuple(params), tuple(params.values()))
        try:
            walked: Walked = self.run("walk", field, control, numbers, y, known, *choices)
        except Exception as error:
            if self.adjoint:  # whose steps have no graph alone
                self.fail(f"the adjoint's loop was refused ({reason(error)})")
            self.walks, self.alone = dict.fromkeys(self.walks, False), reason(error)
            return None
        return walked

    def back(
        self,
        field: VectorField,
        control: Control,
        moves: Sequence[tuple[float, float]],
        starts: Tensor,
        a: Tensor,
        shares: Tensor | None,
        params: Mapping[str, Tensor],
    ) -> Pulled | None:
        """dL/dy and dL/dtheta of steps (t, h), see ``back_function``; None where autograd has to."""
        empty = (0.0, 0.0) * (len(starts) - len(moves))
        numbers = (len(moves), *(x for move in moves for x in move), *empty)
        named = (tuple(params), tuple(params.values()))
        try:
            with torch.no_grad():
                pulled: Pulled = self.run("back", field, control, numbers, starts, a, shares, *named)
        except Exception as error:
            self.back_at_once, self.alone = dict.fromkeys(self.back_at_once, 0), reason(error)
            return None
        return pulled

    def call(
        self, name: str, field: VectorField, control: Control, numbers: Sequence[float], y: Tensor, *rest: Any
    ) -> Any:
        try:
            found = self.run(name, field, control, numbers, y, *rest)
        except Exception as error:  # whatever the compiler stumbles over; what f itself raises, it raises again
            self.fail(reason(error))
            return None
        if self.alone is not None:
            warnings.warn(f"compile=True makes steps of this f one by one: {self.alone}", stacklevel=2)
            self.alone = None
        return found

    def run(
        self, name: str, field: VectorField, control: Control, numbers: Sequence[float], y: Tensor, *rest: Any
    ) -> Any:
        tolerances = (control.rtol, control.atol)
        scalars = [*numbers, *(0.0 if isinstance(x, Tensor) else x for x in tolerances)]
        given = [x if isinstance(x, Tensor) else None for x in tolerances]
        packed = torch.tensor(scalars, dtype=torch.float64).to(y.device, non_blocking=True)
        if name not in self.compiled:
            function = own_code(self.functions[name])
            self.compiled[name] = torch.compile(function, fullgraph=True, dynamic=False, backend=self.backend)
        with tracing(y):
            return self.compiled[name](field.f, field.args, packed, given, y, *rest)

    def backend(self, module: torch.fx.GraphModule, inputs: Sequence[Any]) -> Any:
        from torch._inductor.compile_fx import compile_fx

        self.compilations += 1
        require_pure(module, inputs)
        # A graph that may be gone through twice (retain_graph) must not give its buffers away.
        with (
            torch._functorch.config.patch(donated_buffer=False),
            quiet("torch._inductor.ir", "torch.utils.cpp_extension"),
        ):
            options, decompositions = lowering(inputs), small_products()
            return compile_fx(module, list(inputs), config_patches=options, decompositions=decompositions)

    def fail(self, why: str) -> None:
        self.failed = why
        warnings.warn(f"compile=True has no effect here: {why}; steps of this f are not compiled", stacklevel=2)


def own_code(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with code of its own: the compiler counts recompilations, and looks graphs up, by the code."""
    assert isinstance(function, FunctionType)
    code = function.__code__.replace()
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


class Impure(RuntimeError):
    """f does more than compute a value from its arguments: to go through its graph would not be to call it."""


class Watched(TorchDispatchMode):
    """Runs a graph on tensors without data and refuses what a step must not do twice."""

    supports_higher_order_operators = True

    def __init__(self, inputs: Sequence[Any]) -> None:
        super().__init__()
        self.inputs = {x.untyped_storage()._cdata for x in inputs if isinstance(x, Tensor)}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.higher_order.while_loop:  # its body, once
            _, body, carried, captured = args
            with self:
                return body(*carried, *captured)
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise Impure("f draws random numbers")
        for value, argument in zip(args, func._schema.arguments, strict=False):
            written = argument.alias_info is not None and argument.alias_info.is_write
            if written and isinstance(value, Tensor) and value.untyped_storage()._cdata in self.inputs:
                raise Impure("f writes to its buffers or its arguments")
        return func(*args, **(kwargs or {}))


def require_pure(module: torch.fx.GraphModule, inputs: Sequence[Any]) -> None:
    """Impure where the graph does more than compute values; it is run on tensors without data, parameters included."""
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fakes = [mode.from_tensor(x) if isinstance(x, Tensor) else x for x in inputs]
        with Watched(fakes):
            module(*fakes)


def tracing(y: Tensor) -> AbstractContextManager[Any]:
    """Without the warning that tracing calls forth by looking at an input that is no leaf of autograd's graph."""
    return warnings.catch_warnings(action="ignore") if y.requires_grad else nullcontext()


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Without these logs' remarks (how an operation is lowered, that there is no GPU), which no user can act on."""
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in names}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def reason(error: BaseException) -> str:
    """The first sentence of what went wrong, without the compiler's own wrapping."""
    if isinstance(error, FailOnRecompileLimitHit):
        return "what f depends on beside tensors changes, and each change would be compiled anew"
    inner = getattr(error, "inner_exception", None) or error
    text = str(inner).partition("Got graph break/error:")[2] or str(inner)  # of a loop, what is wrong comes after that
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(inner).__name__
