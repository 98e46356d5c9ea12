"""The solves of one pass over a batch, done again to be measured: errors, memory, time.

A reference is a solve of the same field in float64 at REFERENCE_FACTOR times the tolerance. Fixed steps have no
tolerance; their reference is FIXED_STEP_REFERENCE.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from noderun.data import Batch
from noderun.models import SolveBlock
from noderun.models.block import Given, Times
from noderun.ode.configured import ConfiguredSolve
from noderun.ode.solvers import Solution
from noderun.ode.solvers.nesting import map_tensors, tensors_in
from noderun.sde.configured import ConfiguredSDESolve
from noderun.training.memory import saved_bytes
from noderun.training.setup import Setup

Observed = tuple[SolveBlock, Any, Times, Given, Any]  # block, y0, ts, what else its solve was given, ys
REFERENCE_FACTOR, TIGHTEST = 1e-3, 1e-12
# exact, and no longer than the run can wait for
REFERENCE: dict[str, Any] = {
    "gradient": "checkpointed",
    "gradient_options": None,
    "max_steps": 2_000,
    "compile": None,
}
FIXED_STEP = {"solver_options": None, "dt": None} | REFERENCE
FIXED_STEP_REFERENCE = {"solver": "dop853", "rtol": 1e-9, "atol": 1e-9} | FIXED_STEP
# At the kinks of a ReLU the order of dop853 is lost on it, and with a vjp to each evaluation it would take minutes.
FIXED_STEP_GRADIENT_REFERENCE = {"solver": "dopri5", "rtol": 1e-7, "atol": 1e-7} | FIXED_STEP


@dataclass(frozen=True)
class BlockPass:
    """One solve of a block: the state [B, ...] at the start, the output times [T], and dL/dys [T, B, ...].

    State and cotangent may be nested, in the same way. ``given`` are the other arguments of the solve.
    """

    block: SolveBlock
    y0: Any
    ts: Times
    cotangents: Any
    given: Given = field(default_factory=dict)

    def first(self, examples: int) -> BlockPass:
        """The same pass of the first examples of the batch."""
        y0, given = map_tensors(lambda y: y[:examples], self.y0), self.given_args(lambda x: x[:examples])
        return replace(self, y0=y0, cotangents=map_tensors(lambda g: g[:, :examples], self.cotangents), given=given)

    def double(self) -> BlockPass:
        y0, cotangents = map_tensors(Tensor.double, self.y0), map_tensors(Tensor.double, self.cotangents)
        return replace(self, y0=y0, cotangents=cotangents, given=self.given_args(Tensor.double))

    def given_args(self, change: Callable[[Tensor], Tensor]) -> Given:
        """``given`` with each tensor of its args changed."""
        return {**self.given, "args": map_tensors(change, self.given.get("args", ()))}

    def solve(self, f: nn.Module | None = None, y0: Any = None, **overrides: Any) -> Any:
        """ys of the pass, of the block's own field and start unless others are given."""
        f, y0 = self.block.dynamics if f is None else f, self.y0 if y0 is None else y0
        return self.block.solve(f, y0, self.ts, **{**self.given, **overrides}).ys

    def end(self, f: nn.Module | None = None, y0: Any = None, **overrides: Any) -> Any:
        return map_tensors(lambda ys: ys[-1], self.solve(f, y0, **overrides))


@contextmanager
def observed(blocks: Sequence[SolveBlock]) -> Iterator[list[Observed]]:
    """Inside, each solve of the blocks is noted, in order."""
    seen: list[Observed] = []

    def note(block: SolveBlock) -> Callable[[Any, Times, Given, Solution], None]:
        def observe(y0: Any, ts: Times, given: Given, solution: Solution) -> None:
            start = map_tensors(Tensor.detach, y0)
            seen.append((block, start, ts.detach() if isinstance(ts, Tensor) else ts, given, solution.ys))

        return observe

    with ExitStack() as stack:
        for block in blocks:
            block.observers.append(note(block))
            stack.callback(block.observers.pop)
        yield seen


def passes(setup: Setup, batch: Batch) -> list[BlockPass]:
    """Run the objective once, backwards too, and note each solve that the loss depends on; leaves .grad alone.

    Solves of stochastic equations are left out: an ordinary one is no reference for them.
    """
    setup.model.eval()
    with (
        observed([block for block in setup.blocks if not isinstance(block.solve, ConfiguredSDESolve)]) as seen,
        torch.enable_grad(),
    ):
        loss = setup.values(batch)["loss"]
    seen = [each for each in seen if any(y.requires_grad for y in tensors_in(each[-1]))]  # others are not the loss's
    if not seen:
        return []
    # an output that the loss does not depend on, for instance y0 itself, has no gradient
    outputs = [ys for *_, ys in seen]
    tensors = list(tensors_in(outputs))
    found = torch.autograd.grad(loss, tensors, allow_unused=True)
    gradients = iter(torch.zeros_like(y) if g is None else g for y, g in zip(tensors, found, strict=True))
    cotangents = map_tensors(lambda y: next(gradients), outputs)
    return [BlockPass(block, y0, ts, g, given) for (block, y0, ts, given, _), g in zip(seen, cotangents, strict=True)]


def reference_settings(
    solve: ConfiguredSolve, fixed_step: Mapping[str, Any] = FIXED_STEP_REFERENCE
) -> Mapping[str, Any]:
    """The arguments that make a float64 solve the reference for ``solve``."""
    if solve.dt is not None or solve.rtol is None or solve.solver == "scipy":  # autograd does not pass scipy
        return fixed_step
    given = {name: value for name, value in (("rtol", solve.rtol), ("atol", solve.atol)) if value is not None}
    return {name: max(REFERENCE_FACTOR * value, TIGHTEST) for name, value in given.items()} | REFERENCE


def relative_distance(value: Any, truth: Any) -> float:
    """|value - truth| / |truth| in float64, over all tensors of a nested state together."""
    a, b = (torch.cat([part.double().flatten() for part in tensors_in(nested)]) for nested in (value, truth))
    return float((a - b).norm() / b.norm())


@torch.no_grad()
def numerical_error(done: BlockPass) -> float:
    """Relative distance of the solve's end state from the float64 reference."""
    f = copy.deepcopy(done.block.dynamics).double()
    y1 = done.end()
    return relative_distance(y1, done.double().end(f, **reference_settings(done.block.configured)))


@torch.no_grad()
def reconstruction_error(done: BlockPass) -> float:
    """Relative distance to the start after a solve forward and one back in time.

    What decays forward explodes backward, and steps that adapt would follow it: they are bounded.
    """
    back = done.ts.flip(0) if isinstance(done.ts, Tensor) else done.ts[::-1]
    solve = done.block.solve
    adapts = isinstance(solve, ConfiguredSolve) and solve.dt is None
    bound = {"max_steps": REFERENCE["max_steps"]} if adapts else {}
    return relative_distance(replace(done, ts=back).end(y0=done.end(), **bound), done.y0)


@torch.no_grad()
def forward_ms(seen: Sequence[BlockPass]) -> float:
    """Milliseconds of a forward solve of the whole batch, all blocks together; the least of three."""
    found = []
    for _ in range(3):
        start = time.perf_counter()
        for done in seen:
            float(next(tensors_in(done.end())).flatten()[0])  # waits for the device
        found.append(time.perf_counter() - start)
    return 1000 * min(found)


def solve_bytes(done: BlockPass) -> int:
    """Bytes that the block's solve holds for its backward pass."""
    return saved_bytes(lambda y0: done.solve(y0=y0), done.y0, done.block.dynamics.parameters())


def stack_bytes(setup: Setup, stack: nn.Module, batch: Batch) -> int:
    """Bytes that a chain of blocks holds for its backward pass, for the input that the batch gives it."""
    setup.model.eval()
    seen: list[Tensor] = []
    handle = stack.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().float()))
    try:
        with torch.no_grad():
            setup.values(batch)
    finally:
        handle.remove()
    return saved_bytes(stack, seen[0], stack.parameters())


def gradient_error(done: BlockPass) -> float:
    """Relative distance of dL/dtheta of the block's own solve and gradient from the float64 reference."""
    own = parameter_gradient(done, done.block.dynamics)
    reference = reference_settings(done.block.configured, FIXED_STEP_GRADIENT_REFERENCE)
    truth = parameter_gradient(done.double(), copy.deepcopy(done.block.dynamics).double(), **reference)
    return relative_distance(own, truth)


def parameter_gradient(done: BlockPass, f: nn.Module, **overrides: Any) -> Tensor:
    """The cotangents of the outputs pulled back to all of f's parameters, as one vector."""
    parameters = [p for p in f.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("f has no trainable parameters")
    with torch.enable_grad():
        y0 = map_tensors(lambda y: y.requires_grad_(), done.y0)
        ys = list(tensors_in(done.solve(f, y0, **overrides)))
        gradients = torch.autograd.grad(ys, parameters, list(tensors_in(done.cotangents)))
    return torch.cat([gradient.flatten() for gradient in gradients])
