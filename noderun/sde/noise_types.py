"""The types of noise: which Brownian motions drive which components, and the shape of g that says so."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noderun.ode.solvers.nesting import tensors_in
from noderun.ode.solvers.state import Layout

TYPES = {
    "diagonal": "one Brownian motion per component; g of y's shape, and each component of g depends on its own of y",
    "scalar": "one Brownian motion per sample; g of y's shape",
    "general": "M Brownian motions per sample; g [B, ..., M]",
    "additive": "g does not depend on y; its shape as for diagonal or for general noise",
}


@dataclass(frozen=True)
class Noise:
    """How increments of the path, [B, ...], meet the components of a state [N]."""

    type: str
    layout: Layout
    samples: int
    columns: int | None  # M if g is a matrix, else None

    @staticmethod
    def of(type: str, layout: Layout, g: object) -> Noise:
        """The noise whose g at the start is ``g``; ValueError for a shape that the type does not have."""
        shapes = [x.shape for x in tensors_in(g)]
        as_state = [tuple(shape) for shape in shapes] == [tuple(shape) for shape in layout.shapes]
        columns = None
        if type == "general" or (type == "additive" and not as_state):
            with_column = len(shapes) == len(layout.shapes) and all(
                tuple(s[:-1]) == tuple(own) for s, own in zip(shapes, layout.shapes, strict=True)
            )
            if not with_column or len({s[-1] for s in shapes}) > 1:
                raise ValueError(refusal(type, shapes, layout))
            columns = shapes[0][-1]
        elif not as_state:
            raise ValueError(refusal(type, shapes, layout))
        return Noise(type, layout, layout.shapes[0][0], columns)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of an increment of the path: [B], [B, M], or y's own (of a nested y all components [B, n])."""
        if self.type == "scalar":
            return (self.samples,)
        if self.columns is not None:
            return (self.samples, self.columns)
        if self.layout.single:
            return tuple(self.layout.shapes[0])
        return (self.samples, sum(self.layout.sizes) // self.samples)

    def spread(self, increment: Tensor) -> Tensor:
        """An increment of the path for every component of the state: [N], or [N, M]."""
        if self.type != "scalar" and self.columns is None and self.layout.single:
            return increment.reshape(-1)
        sizes = [size // self.samples for size in self.layout.sizes]  # per sample
        if self.type != "scalar" and self.columns is None:
            return torch.cat([part.reshape(-1) for part in increment.split(sizes, dim=1)])
        rows = [increment.repeat_interleave(size, dim=0) for size in sizes]
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def flatten(self, g: object) -> Tensor:
        """g in the state's nesting as [N] or [N, M]."""
        if self.columns is None:
            return self.layout.flatten(g, "g returned")
        matrices = [x.reshape(-1, self.columns) for x in tensors_in(g)]
        flat = matrices[0] if len(matrices) == 1 else torch.cat(matrices)
        if len(flat) != sum(self.layout.sizes):
            raise ValueError(refusal(self.type, [x.shape for x in tensors_in(g)], self.layout))
        return flat


def refusal(type: str, shapes: list[torch.Size], layout: Layout) -> str:
    of = [list(shape) for shape in layout.shapes]
    return (
        f"g returned {', '.join(str(list(s)) for s in shapes) or 'no tensor'} for a state of "
        f"{', '.join(map(str, of))}, and noise='{type}' is: {TYPES[type]}"
    )
