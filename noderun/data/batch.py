"""A batch: the examples that one step of training or testing sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Tensors with one leading dimension B, the number of examples; what a data set does not have is None."""

    inputs: Tensor
    targets: Tensor | None = None  # of a density: the classes that it is conditioned on
    times: Tensor | None = None  # [B, T] of a series
    mask: Tensor | None = None  # [B, T] or [B, T, D]: which of the series' values were observed
    target_times: Tensor | None = None  # [B, S]: when the targets are, if not at ``times``
    target_mask: Tensor | None = None  # [B, S] or [B, S, D]: which of those targets count
    source: Tensor | None = None  # [B, *shape]: points to start from, of a flow from data to data; in no order
    index: Tensor | None = None  # int64 [B]: each example's number in its split; filled in when batches are made

    def __len__(self) -> int:
        return len(self.inputs)

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(self, **{name: change(part) for name, part in self.parts().items()})

    def to(self, device: torch.device | str) -> Batch:
        return self.map(lambda part: part.to(device))

    def rows(self, chosen: slice | Tensor) -> Batch:
        """The examples of a slice (as views) or of an int64 tensor of numbers."""
        if isinstance(chosen, slice):
            return self.map(lambda part: part[chosen])
        return self.map(lambda part: part.index_select(0, chosen))  # ten times faster than part[chosen]

    def parts(self) -> dict[str, Tensor]:
        """The tensors that there are, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in named.items() if part is not None}


def joined(batches: Sequence[Batch]) -> Batch:
    """The examples of batches of one data set, one after another."""
    parts = [batch.parts() for batch in batches]
    return Batch(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})
