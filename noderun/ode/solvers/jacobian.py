"""df/dy of a flat state: dense, or one small block per sample if the samples of a batch are independent.

Independence is tested and never assumed. All blocks come from d vector-Jacobian products, the j-th with the j-th unit
vector of every sample at once; one more product with a random vector v then tells whether v^T J is what the blocks
say. If not, the Jacobian is the dense one from there on: each Jacobian is exact at its point, coupled or not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from noderun.ode.solvers.field import Field
from noderun.ode.solvers.state import Layout

LARGEST = 2**28  # numbers in one Jacobian: 2 GiB in float64


def products(value: Tensor, point: Tensor, cotangents: Tensor, graph: bool) -> Tensor:
    """v^T J for rows v of ``cotangents`` [n, ...], of the same shape, if autograd knows how value came from point.

    Zero if value does not depend on point.
    """
    if not (value.requires_grad and cotangents.numel()):
        return torch.zeros_like(cotangents)
    (rows,) = torch.autograd.grad(
        value,
        point,
        cotangents,
        is_grads_batched=True,
        retain_graph=True,
        create_graph=graph,
        allow_unused=True,
    )
    return torch.zeros_like(cotangents) if rows is None else rows


class Blocks:
    """A flat state [N] as independent samples [B, d]; one sample of all components if they couple."""

    def __init__(self, layout: Layout, coupled: bool = False) -> None:
        self.layout = layout
        self.size = sum(layout.sizes)
        leading = {shape[0] if len(shape) else 1 for shape in layout.shapes}
        self.count = leading.pop() if len(leading) == 1 and self.size and not coupled else 1
        self.width = self.size // max(self.count, 1)
        self.plain = len(layout.sizes) == 1 or self.count == 1  # samples lie one behind the other in memory
        if self.count * self.width**2 > LARGEST:
            raise ValueError(
                f"a Jacobian of {self.count} x {self.width} x {self.width} numbers is too large: implicit solvers "
                "are for a few thousand coupled components; choose an explicit solver, for instance tsit5"
            )

    def split(self, flat: Tensor) -> Tensor:
        """[..., N] -> [..., B, d]."""
        lead = flat.shape[:-1]
        if self.plain:
            return flat.reshape(*lead, self.count, self.width)
        return torch.cat([part.reshape(*lead, self.count, -1) for part in self.layout.split(flat)], dim=-1)

    def join(self, samples: Tensor) -> Tensor:
        """[..., B, d] -> [..., N]."""
        lead = samples.shape[:-2]
        if self.plain:
            return samples.reshape(*lead, self.size)
        parts = samples.split([size // self.count for size in self.layout.sizes], dim=-1)
        return torch.cat([part.reshape(*lead, -1) for part in parts], dim=-1)


class Jacobian:
    """Evaluates df/dy [B, d, d] during one solve, and remembers whether its samples couple."""

    def __init__(self, layout: Layout, like: Tensor) -> None:
        self.layout = layout
        self.use(Blocks(layout), like)

    def use(self, blocks: Blocks, like: Tensor) -> None:
        """Work with these blocks: cotangents [d, N], and a random one behind them as long as there is a choice."""
        self.blocks = blocks
        unit = torch.eye(blocks.width, dtype=like.dtype, device=like.device)
        self.cotangents = blocks.join(unit.unsqueeze(1).expand(-1, blocks.count, -1))
        if blocks.count > 1:
            generator = torch.Generator().manual_seed(0)  # the caller's random numbers are not ours to use up
            probe = torch.randn(1, blocks.size, generator=generator, dtype=torch.float64).to(like)
            self.cotangents = torch.cat((self.cotangents, probe))

    def at(self, field: Field, t: Tensor, y: Tensor) -> Tensor:
        """df/dy [B, d, d] at (t, y)."""
        with torch.enable_grad():
            point = y.detach().requires_grad_()
            return self.of(field.linearize(t, point), point)

    def of(self, value: Tensor, point: Tensor, graph: bool = False) -> Tensor:
        """The same from f's value [N] and the point [N] that autograd knows it came from; that graph is kept.

        With ``graph`` it is itself differentiable in all that f depends on.
        """
        samples = self.blocks.split(products(value, point, self.cotangents, graph))
        jacobian = samples[: self.blocks.width].transpose(0, 1)
        if self.blocks.count > 1 and not self.independent(jacobian.detach(), samples[-1].detach()):
            self.use(Blocks(self.layout, coupled=True), point)
            return self.of(value, point, graph)
        return jacobian

    def independent(self, jacobian: Tensor, product: Tensor) -> bool:
        """Whether the random v^T J [B, d] is that of the blocks alone, to half the digits (NaN decides nothing)."""
        probe = self.blocks.split(self.cotangents[-1]).unsqueeze(1)
        difference = (probe @ jacobian).squeeze(1).sub_(product).abs().max()
        bound = torch.finfo(product.dtype).eps ** 0.5 * (probe.abs() @ jacobian.abs()).max()
        return not bool(difference > bound)
