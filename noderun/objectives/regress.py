"""Regression by least squares."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from noderun.data import Batch, Series, Target, Values
from noderun.objectives.objective import Objective, predict
from noderun.record.metric import METRICS, Metric


class Regress(Objective):
    """The model returns the targets' shape; the loss is the mean squared error, and "mse" the same in the data's units.

    With a mask only observed values count, and every example counts the same.
    """

    metrics: tuple[Metric, ...] = (METRICS["rmse"],)
    targets: ClassVar[tuple[type, ...]] = (Values, Series)

    def __init__(self, scale: tuple[float, ...] | None = None) -> None:
        self.scale = scale  # of the targets' units

    def for_target(self, target: Target) -> Objective:
        return Regress(target.scale) if isinstance(target, Series) else self

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return self.judge(predict(model, batch), batch)

    def judge(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The values of a model's outputs."""
        targets = batch.targets
        mask = batch.mask if batch.target_times is None else batch.target_mask
        assert targets is not None
        if outputs.shape != targets.shape:  # mse_loss would broadcast, and learn the wrong thing
            raise ValueError(f"the model returns {tuple(outputs.shape)} for targets of shape {tuple(targets.shape)}")
        mse = squared_error(outputs, targets, mask)
        reported = mse if self.scale is None else squared_error(outputs, targets, mask, self.scale)
        return {"loss": mse.mean(), "mse": reported.detach()}


def squared_error(
    outputs: Tensor, targets: Tensor, mask: Tensor | None, scale: tuple[float, ...] | None = None
) -> Tensor:
    """[B]: each example's mean over its values, or over those that ``mask`` says were observed, in units of 1/scale."""
    if scale is not None:
        unit = targets.new_tensor(scale)
        return squared_error(unit * outputs.detach(), unit * targets, mask)
    if mask is None:
        return functional.mse_loss(outputs.float(), targets, reduction="none").flatten(1).mean(1)
    mask = mask if mask.dim() == targets.dim() else mask.unsqueeze(-1).expand_as(targets)
    # where, not a product: values that were not observed may be NaN
    squares = torch.where(mask, outputs.float() - targets, 0.0).square()
    return squares.flatten(1).sum(1) / mask.flatten(1).sum(1).clamp(min=1)
