"""The objects that a training run consists of: made by build, used by the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from noderun.data import Batch
from noderun.models import SolveBlock
from noderun.objectives import Objective
from noderun.training.optimization import Schedule
from noderun.training.ranks import Ranks


@dataclass(frozen=True)
class Setup:
    model: nn.Module
    blocks: Sequence[SolveBlock]  # the model's own; empty if it solves nothing
    objective: Objective
    optimizer: Optimizer
    lr_schedule: Schedule  # step -> learning rate
    batches: Callable[[str, int, int], Iterator[Batch]]  # (split, epoch, first batch)
    steps_per_epoch: int
    device: torch.device
    bf16: bool = False
    validated: bool = False  # the data have a split "validation"
    clip_norm: float | None = None
    skips: bool = False  # steps whose loss or gradient is not finite
    penalty_weight: float = 0.0
    horizon: int | None = None  # steps after which the schedule of the learning rate ends; None if it has no end
    ranks: Ranks = field(default_factory=Ranks)  # the processes that train this model

    def values(self, batch: Batch) -> dict[str, Tensor]:
        """The objective's means over the batch; in bf16 the nets run under autocast, a solve's state stays float32.

        If the blocks have a regularizer, the loss of a training pass holds ``penalty_weight`` times the sum of their
        penalties, and "regularizer" is that sum.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            values = self.objective(self.model, batch)
            penalties = [block.penalty for block in self.blocks if block.penalty is not None]
            if not penalties:
                return values
            total = torch.stack(penalties).sum()
            return values | {"loss": values["loss"] + self.penalty_weight * total, "regularizer": total.detach()}
