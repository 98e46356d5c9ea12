"""Chains of invertible blocks that keep no activations: the backward pass recomputes them from the output.

Gomez et al. 2017; Chang et al. 2018, "Reversible architectures". A block maps a pair of states to a pair and back.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from noderun.ode.solvers.field import Autocast

Pair = tuple[Tensor, Tensor]


class Invertible(Protocol):
    def __call__(self, x: Pair) -> Pair: ...

    def inverse(self, y: Pair) -> Pair: ...

    def parameters(self) -> Any: ...


class ReversibleChain(nn.Sequential):
    """States [B, 2 C, ...] to the same through all blocks, whose memory does not grow with their number."""

    def forward(self, x: Tensor) -> Tensor:
        x = x if x.dtype == torch.float64 else x.float()  # in half precision the input could not be recovered
        first, second = x.chunk(2, dim=1)
        parameters = [p for p in self.parameters() if p.requires_grad]
        return torch.cat(Recomputed.apply(tuple(self), first, second, *parameters), dim=1)


class Recomputed(torch.autograd.Function):
    """The parameters are inputs, so that their gradients leave through autograd."""

    @staticmethod
    def forward(ctx: Any, blocks: tuple[Invertible, ...], first: Tensor, second: Tensor, *parameters: Tensor) -> Pair:
        pair = (first, second)
        for block in blocks:
            pair = block(pair)
        ctx.blocks, ctx.parameters, ctx.autocast = blocks, parameters, Autocast(first.device.type)
        ctx.save_for_backward(*pair)
        return pair

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        pair: Pair = ctx.saved_tensors
        totals: dict[int, Tensor] = {}
        for block in reversed(ctx.blocks):
            with ctx.autocast.inside():
                pair, grads, own = pull_back(block, pair, grads)
            for parameter, gradient in own:
                known = totals.get(id(parameter))
                totals[id(parameter)] = gradient if known is None else known + gradient
        return None, *grads, *(totals.get(id(parameter)) for parameter in ctx.parameters)


def pull_back(
    block: Invertible, y: Pair, grads: tuple[Tensor, ...]
) -> tuple[Pair, tuple[Tensor, ...], list[tuple[Tensor, Tensor]]]:
    """A block's input from its output, dL/dinput from dL/doutput, and dL/dparameter of each of its parameters."""
    parameters = [p for p in block.parameters() if p.requires_grad]
    with torch.no_grad():
        x = block.inverse(y)
    inputs = tuple(part.detach().requires_grad_() for part in x)
    with torch.enable_grad():
        outputs = block(inputs)  # type: ignore[arg-type]
    found = torch.autograd.grad(outputs, (*inputs, *parameters), grads, allow_unused=True)
    own = [(p, g) for p, g in zip(parameters, found[2:], strict=True) if g is not None]
    return x, found[:2], own
