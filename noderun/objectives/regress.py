"""Regression by least squares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from noderun.data import Batch, Series, Target, Values
from noderun.objectives.objective import Objective, predict
from noderun.record.metric import METRICS, Metric

MSE_MINMAX = Metric("mse_minmax", "MSE, min-max", ".2e")


class Regress(Objective):
    """The model returns the targets' shape; the loss is the mean squared error, and "mse" the same in the data's units.

    With a mask only observed values count, and every example counts the same.
    """

    metrics: tuple[Metric, ...] = (METRICS["rmse"],)
    targets: ClassVar[tuple[type, ...]] = (Values, Series)

    def __init__(self, series: Series | None = None) -> None:
        self.series = series
        self.metrics = (*type(self).metrics, *minmax_metrics(series))

    def for_target(self, target: Target) -> Objective:
        return Regress(target) if isinstance(target, Series) else self

    def over_split(self, model: nn.Module, batches: Iterator[Batch]) -> dict[str, Tensor]:
        return mse_minmax(model, batches, self.series)

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
        scale = self.series.scale if self.series else None
        reported = mse if scale is None else squared_error(outputs, targets, mask, scale)
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


def minmax_metrics(series: Series | None) -> tuple[Metric, ...]:
    """The metric of ``mse_minmax``, if the extent of the channels is known."""
    return () if series is None or series.system.extent is None else (MSE_MINMAX,)


def mse_minmax(model: nn.Module, batches: Iterator[Batch], series: Series | None) -> dict[str, Tensor]:
    """The mean squared error over all observed values of a split, with each channel scaled by its extent, in which
    published errors are stated; every value counts the same. Nothing if the extent is not known."""
    if series is None or series.system.extent is None or series.scale is None:
        return {}
    sums = torch.zeros(2, dtype=torch.float64)
    for batch in batches:
        assert batch.targets is not None and batch.target_mask is not None
        unit = batch.targets.new_tensor(series.scale) / batch.targets.new_tensor(series.system.extent)
        error = torch.where(batch.target_mask, unit * (predict(model, batch) - batch.targets), 0.0)
        sums += torch.stack([error.square().sum(), batch.target_mask.sum()]).double().cpu()
    return {"mse_minmax": sums[0] / sums[1]}
