"""The step of one f under torch.compile: how it is called, what is refused, and how it is lowered."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from noderun.solvers.compiled.traced import Found, Pulled, Start, pull_function, start_function, step_function
from noderun.solvers.compiled.walk import Walked, attempts_at_once, walk_function
from noderun.solvers.control import Control
from noderun.solvers.field import Autocast, VectorField
from noderun.solvers.state import Layout
from noderun.solvers.tableau import ButcherTableau


class Graph:
    """The compiled step, many attempts of it, its transpose and the choice of the first step size.

    Each is called with the numbers of a solve. ``failed`` says why there can be none, ``walks`` whether one call can
    make many attempts (by whether stages are kept), ``compilations`` how often something was compiled.
    """

    def __init__(self, tableau: ButcherTableau, order: int, layout: Layout, autocast: Autocast) -> None:
        self.failed: str | None = None
        self.compilations = 0
        self.walks = {inside: attempts_at_once(tableau, sum(layout.sizes), inside) > 0 for inside in (False, True)}
        self.functions: dict[str, Callable[..., Any]] = {
            "walk": walk_function(tableau, order, layout, autocast),
            "start": start_function(order, layout, autocast),
            "step": step_function(tableau, layout, autocast),
            "pull": pull_function(tableau, layout, autocast),
        }
        self.compiled: dict[str, Callable[..., Any]] = {}

    def step(
        self, field: VectorField, control: Control, t: float, h: float, y: Tensor, slope: Tensor | None, estimate: bool
    ) -> Found | None:
        """None where it could not be compiled, with a warning that says why."""
        found: Found | None = self.call("step", field, control, (t, h), y, slope, control.norm if estimate else None)
        return found

    def start(self, field: VectorField, control: Control, t: float, span: float, y: Tensor) -> Start | None:
        """The same for the sizes from which a first step follows."""
        found: Start | None = self.call("start", field, control, (t, span), y, control.norm)
        return found

    def pull(
        self,
        field: VectorField,
        control: Control,
        t: float,
        h: float,
        y: Tensor,
        a: Tensor,
        params: tuple[Tensor, ...],
    ) -> Pulled | None:
        """The same for the transpose of a step."""
        with torch.no_grad(), torch._dynamo.config.patch(trace_autograd_ops=True):
            found: Pulled | None = self.call("pull", field, control, (t, h), y, a, params)
        return found

    def walk(
        self,
        field: VectorField,
        control: Control,
        numbers: Sequence[float],
        y: Tensor,
        slope: Tensor | None,
        inside: bool,
    ) -> Walked | None:
        """Attempts from y on, by the ``numbers`` of ``walk_function``; None where steps go one by one.

        A loop asks more of f than a step does (that it writes to nothing, that its tensors share no memory).
        """
        if not self.walks[inside]:
            return None
        choices = (control.norm, control.controller, inside)
        try:
            walked: Walked = self.run("walk", field, control, numbers, y, slope, *choices)
        except Exception:  # what is wrong with f itself, its step says
            self.walks = dict.fromkeys(self.walks, False)
            return None
        return walked

    def call(
        self, name: str, field: VectorField, control: Control, numbers: Sequence[float], y: Tensor, *rest: Any
    ) -> Any:
        try:
            return self.run(name, field, control, numbers, y, *rest)
        except Exception as error:  # whatever the compiler stumbles over; what f itself raises, it raises again
            self.fail(reason(error))
            return None

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
        with torch._functorch.config.patch(donated_buffer=False), quiet("torch._inductor.ir"):
            return compile_fx(module, list(inputs), config_patches=lowering(inputs))

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
def quiet(name: str) -> Iterator[None]:
    """Without the log's remarks on how an operation is lowered: no user can do anything about them."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def reason(error: BaseException) -> str:
    """The first sentence of what went wrong, without the compiler's own wrapping."""
    if isinstance(error, FailOnRecompileLimitHit):
        return "what f depends on beside tensors changes, and each change would be compiled anew"
    inner = getattr(error, "inner_exception", None) or error
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(inner).__name__


class KeepVectorMath(CustomGraphPass):
    """On a CPU torch's own tanh goes through a vector mathematics library, several times faster than generated code.

    Below some hundred elements its call costs more than it saves.
    """

    def __call__(self, graph: torch.fx.Graph) -> None:
        for node in graph.nodes:
            if node.target is torch.ops.aten.tanh.default and node.meta["val"].numel() > 1000:
                node.meta.setdefault("custom", {})["fallback_to_eager"] = True  # stays with the body of a loop

    def uuid(self) -> str:
        return "noderun: tanh of more than 1000, loops too"


def lowering(inputs: Sequence[Any]) -> dict[str, Any]:
    """Options of the compiler: half precision is rounded as f does it; on a CPU the whole step is one C++ function."""
    options: dict[str, Any] = {"emulate_precision_casts": True}
    if all(x.device.type == "cpu" for x in inputs if isinstance(x, Tensor)):
        options |= {"cpp_wrapper": True, "post_grad_custom_post_pass": KeepVectorMath()}
    return options
