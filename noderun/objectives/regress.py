"""Regression by least squares."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from noderun.data import Batch, Series, Values
from noderun.objectives.objective import Objective, predict
from noderun.record.metric import METRICS


class Regress(Objective):
    """The model returns the targets' shape; "mse", the mean squared error, is also the loss.

    With a mask only observed values count, and every example counts the same.
    """

    metrics = (METRICS["rmse"],)
    targets = (Values, Series)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        targets, mask = batch.targets, batch.mask
        assert targets is not None
        outputs = predict(model, batch)
        if outputs.shape != targets.shape:  # mse_loss would broadcast, and learn the wrong thing
            raise ValueError(f"the model returns {tuple(outputs.shape)} for targets of shape {tuple(targets.shape)}")
        loss = functional.mse_loss(outputs.float(), targets) if mask is None else masked_mse(outputs, targets, mask)
        return {"loss": loss, "mse": loss.detach()}


def masked_mse(outputs: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """The mean over examples [B, T, D] of each one's mean over the times at which ``mask`` [B, T] is true."""
    # where, not a product: values that were not observed may be NaN
    squares = torch.where(mask.unsqueeze(-1), outputs.float() - targets, 0.0).square().mean(-1)
    return (squares.sum(1) / mask.sum(1).clamp(min=1)).mean()
