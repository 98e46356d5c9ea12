"""What a training run is made of: the objects that build puts together and the loop works with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from noderun.training.objectives import Batch, Objective
from noderun.training.optimization import Schedule


class Block(Protocol):
    """The part of a model that is a solve: from 0 to t1, with the statistics of the last one."""

    dynamics: nn.Module
    solve: Callable[..., Any]
    t1: float
    stats: Any

    def register_forward_hook(self, hook: Callable[..., None]) -> RemovableHandle: ...


@dataclass(frozen=True)
class Setup:
    model: nn.Module
    blocks: Sequence[Block]  # empty where a model solves nothing
    objective: Objective
    optimizer: Optimizer
    rate: Schedule  # step -> learning rate
    batches: Callable[[str, int, int], Iterator[Batch]]  # (split, epoch, first batch)
    steps_per_epoch: int
    device: torch.device
    bf16: bool = False
    clip_norm: float | None = None
    closer: str = ""  # which settings bring a solve's gradient closer to that of the flow, in words

    def values(self, batch: Batch) -> dict[str, Tensor]:
        """The objective's means over the batch; in bf16 the nets run under autocast, a solve's state stays float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.objective(self.model, batch)
