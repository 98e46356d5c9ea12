"""The vector field of a batch whose samples have times of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from noderun.solvers.field import Autocast
from noderun.solvers.state import Layout, describe

Evaluate = Callable[[Tensor, Tensor], Tensor]  # t [b], y [b, N] -> dy/dt [b, N]


class SampleField:
    """dy/dt = f(t, y, *args) for any of the samples of a batch of ``size``; ``layout`` is that of one sample."""

    def __init__(
        self, f: Callable[..., Any], layout: Layout, args: tuple[Any, ...], autocast: Autocast, size: int
    ) -> None:
        self.f, self.layout, self.args, self.autocast, self.size = f, layout, args, autocast, size
        dims = {len(shape) for shape in layout.shapes}
        if len(dims) > 1:
            raise ValueError("per_sample=True takes nested states whose tensors have equally many dimensions")
        self.broadcast = (1,) * dims.pop()

    def of(self, samples: Tensor | None) -> Evaluate:
        """f for these samples, None being all; tensors in args with a leading dimension of B are theirs too."""

        def gathered(x: Any) -> Any:
            return x[samples] if isinstance(x, Tensor) and x.dim() and len(x) == self.size else x

        args = self.args if samples is None else tree_map(gathered, self.args)

        def evaluate(t: Tensor, y: Tensor) -> Tensor:
            with self.autocast.inside():
                slope = self.f(self.time(t, y), self.layout.rebuild(self.layout.split(y)), *args)
            return self.flat(slope, len(y)).to(y.dtype)

        return evaluate

    def time(self, t: Tensor, y: Tensor) -> Tensor:
        """t [b] as f sees it: [b, 1, ..., 1], broadcastable to the state."""
        return t.to(y.dtype.to_real()).reshape(-1, *self.broadcast)

    def flat(self, state: Any, count: int) -> Tensor:
        """[b, N]; ValueError where f returned other shapes than the state's."""
        wanted = tuple(torch.Size((count, *shape)) for shape in self.layout.shapes)
        rebuilt = Layout(wanted, (), self.layout.rebuild, self.layout.keys, self.layout.single)
        return torch.cat([leaf.reshape(count, -1) for leaf in rebuilt.leaves(state)], dim=1)

    def values(self, fn: Callable[..., Tensor], t: Tensor, y: Tensor) -> Tensor:
        """An event's function fn(t, y) [b]."""
        value = fn(self.time(t, y), self.layout.rebuild(self.layout.split(y)))
        if value.numel() != len(t):
            got = describe((value.shape,))
            raise ValueError(f"an event's function returned {got} for {len(t)} samples; it returns one number each")
        return value.reshape(-1)
