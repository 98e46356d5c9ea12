"""How well a trained model's solves are solved: measurements that cost solves of their own.

A reference is a solve of the same field in float64 at TIGHTER times the tolerance; where steps are fixed there is
no tolerance, and FIXED_STEP_REFERENCE is the truth.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from noderun.training.memory import MIB, saved_bytes
from noderun.training.objectives import Batch
from noderun.training.progress import Progress
from noderun.training.setup import Block, Setup

REFERENCE_FACTOR, TIGHTEST = 1e-3, 1e-12
# exact, and no more than the run can wait for
REFERENCE = {"gradient": "checkpointed", "gradient_options": None, "max_steps": 2_000, "compile": False}
FIXED_STEP = {"solver_options": None, "dt": None} | REFERENCE
FIXED_STEP_REFERENCE = {"solver": "dop853", "rtol": 1e-9, "atol": 1e-9} | FIXED_STEP
# At the kinks of a ReLU the order of dop853 is lost on it, and with a vjp to each evaluation it would take minutes.
FIXED_STEP_GRADIENT_REFERENCE = {"solver": "dopri5", "rtol": 1e-7, "atol": 1e-7} | FIXED_STEP
EXAMPLES = 8  # of the batch: a reference in float64 costs far more than a training step
SHARE = 0.02  # of the training's time, for the gradient's error between epochs
FIRST_PRICE = 5  # steps; 2 to 13 were found, on mnist5k, digits and moons
log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class BlockPass:
    """What went through a block in one pass over a batch: the state in, and dL/dy(t1)."""

    block: Block
    y0: Tensor
    cotangent: Tensor

    def first(self, examples: int) -> BlockPass:
        return BlockPass(self.block, self.y0[:examples], self.cotangent[:examples])


Measure = Callable[[Sequence[BlockPass]], float]


def passages(setup: Setup, batch: Batch) -> list[BlockPass]:
    """Runs the objective once, backwards too, and notes what passes through each block; leaves .grad alone."""
    setup.model.eval()
    seen: list[tuple[Block, Tensor, Tensor]] = []

    def note(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        y0 = inputs[0].detach()
        # as the block does: under autocast the stem may give half precision, and the measurements run without it
        seen.append((module, y0 if y0.dtype == torch.float64 else y0.float(), output))

    handles = [block.register_forward_hook(note) for block in setup.blocks]
    try:
        with torch.enable_grad():
            loss = setup.values(batch)["loss"]
            cotangents = torch.autograd.grad(loss, [output for _, _, output in seen])
    finally:
        for handle in handles:
            handle.remove()
    return [BlockPass(block, y0, g) for (block, y0, _), g in zip(seen, cotangents, strict=True)]


def end_state(block: Block, f: nn.Module, y0: Tensor, backward: bool = False, **overrides: Any) -> Tensor:
    times = [block.t1, 0.0] if backward else [0.0, block.t1]
    ts = torch.tensor(times, dtype=y0.dtype, device=y0.device)
    return block.solve(f, y0, ts, **overrides).ys[-1]


def reference_settings(block: Block, fixed_step: dict[str, Any] = FIXED_STEP_REFERENCE) -> dict[str, Any]:
    """What a solve is to be called with, beside float64, to be the truth for this block's own."""
    own = getattr(block.solve, "keywords", {})
    if own.get("dt") is not None or "rtol" not in own or own["solver"] == "scipy":  # autograd does not pass scipy
        return fixed_step
    return {name: max(REFERENCE_FACTOR * own[name], TIGHTEST) for name in ("rtol", "atol")} | REFERENCE


def relative_distance(value: Tensor, truth: Tensor) -> float:
    return float((value.double() - truth.double()).norm() / truth.double().norm())


@torch.no_grad()
def numerical_error(passage: BlockPass) -> float:
    """Relative distance of the solve's end state from the float64 reference."""
    block, y0 = passage.block, passage.y0
    y1 = end_state(block, block.dynamics, y0)
    f = copy.deepcopy(block.dynamics).double()
    return relative_distance(y1, end_state(block, f, y0.double(), **reference_settings(block)))


@torch.no_grad()
def reconstruction_error(passage: BlockPass) -> float:
    """Relative distance to the start after a solve forward and one back in time."""
    block, y0 = passage.block, passage.y0
    y1 = end_state(block, block.dynamics, y0)
    return relative_distance(end_state(block, block.dynamics, y1, backward=True), y0)


@torch.no_grad()
def forward_ms(seen: Sequence[BlockPass]) -> float:
    """Milliseconds of a forward solve of the whole batch, all blocks together; the least of three."""
    found = []
    for _ in range(3):
        start = time.perf_counter()
        for passage in seen:
            float(end_state(passage.block, passage.block.dynamics, passage.y0).flatten()[0])  # waits for the device
        found.append(time.perf_counter() - start)
    return 1000 * min(found)


def solve_bytes(passage: BlockPass) -> int:
    """What the block's solve holds for its backward pass."""
    block = passage.block
    return saved_bytes(lambda y0: end_state(block, block.dynamics, y0), passage.y0, block.dynamics.parameters())


def stack_bytes(setup: Setup, stack: nn.Module, batch: Batch) -> int:
    """What a chain of blocks holds for its backward pass, given what the batch makes of it on the way there."""
    setup.model.eval()
    seen: list[Tensor] = []
    handle = stack.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().float()))
    try:
        with torch.no_grad():
            setup.values(batch)
    finally:
        handle.remove()
    return saved_bytes(stack, seen[0], stack.parameters())


def gradient_error(passage: BlockPass) -> float:
    """Relative distance of dL/dtheta of the block's own solve and gradient from the float64 reference."""
    block = passage.block
    own = parameter_gradient(passage, block.dynamics)
    wide = BlockPass(block, passage.y0.double(), passage.cotangent.double())
    reference = reference_settings(block, FIXED_STEP_GRADIENT_REFERENCE)
    truth = parameter_gradient(wide, copy.deepcopy(block.dynamics).double(), **reference)
    return relative_distance(own, truth)


def parameter_gradient(passage: BlockPass, f: nn.Module, **overrides: Any) -> Tensor:
    """The pullback of the cotangent at y(t1) to all of f's parameters, as one vector."""
    parameters = [p for p in f.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("f has no trainable parameters")
    with torch.enable_grad():
        y1 = end_state(passage.block, f, passage.y0.requires_grad_(), **overrides)
        gradients = torch.autograd.grad(y1, parameters, passage.cotangent)
    return torch.cat([gradient.flatten() for gradient in gradients])


def worst(measure: Callable[[BlockPass], float]) -> Measure:
    """The measurement of the first EXAMPLES of each block, as the largest of all blocks'."""
    return lambda seen: max(measure(passage.first(EXAMPLES)) for passage in seen)


GRADIENT_ERROR = "solve/gradient_error"
MEASURES: dict[str, Measure] = {
    "memory/saved_mib": lambda seen: sum(map(solve_bytes, seen)) / MIB,
    "time/forward_ms": forward_ms,
    "solve/numerical_error": worst(numerical_error),
    "solve/reconstruction_error": worst(reconstruction_error),
    GRADIENT_ERROR: worst(gradient_error),
}


def diagnose(
    setup: Setup, batch: Batch, pause: Callable[[], None] = lambda: None, tags: Sequence[str] = ()
) -> dict[str, float | None]:
    """All measurements (or those of ``tags``) under the tags of metrics.jsonl; ``pause`` is called between them.

    Of a residual net there is the memory alone, of the blocks that stand where others solve. What cannot be measured,
    whatever the reason, is None and said in the log: no training is lost for it.
    """
    if not setup.blocks:
        stack = getattr(setup.model, "blocks", None)
        if not isinstance(stack, nn.Module):
            return {}
        return {"memory/saved_mib": attempted("memory/saved_mib", lambda: stack_bytes(setup, stack, batch) / MIB)}
    row: dict[str, float | None] = dict.fromkeys(tags or MEASURES)
    seen = attempted(", ".join(row), lambda: passages(setup, batch))
    if seen is not None:
        for tag in row:
            pause()
            row[tag] = attempted(tag, partial(MEASURES[tag], seen))
    return row


def attempted(tag: str, measure: Callable[[], T]) -> T | None:
    try:
        return measure()
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        log.warning("%s was not measured: %s", tag, reason)
        return None


def affordable(progress: Progress) -> bool:
    """Whether one more measurement of the gradient's error keeps their time within SHARE of the training's.

    Before the first one its price is taken for that of FIRST_PRICE steps. One that failed is not tried again.
    """
    if progress.diagnostics.get(GRADIENT_ERROR, 0.0) is None:
        return False
    count, spent, training = progress.gradient_measurements, progress.gradient_seconds, progress.training_seconds
    price = spent / count if count else FIRST_PRICE * training / progress.step
    return spent + price <= SHARE * training
