"""The objective of models that carry a state along in time: the error of the roll-out."""

from __future__ import annotations

import torch
from torch import Tensor

from noderun.data import Batch, Series, Target
from noderun.models.timeline import channel_mask
from noderun.objectives.objective import Objective
from noderun.objectives.regress import Regress
from noderun.record.metric import METRICS, Metric

NRMSE = Metric("nrmse", "nRMSE", ".3g")
PERSISTENCE = Metric("nrmse_persistence", "nRMSE of persistence", ".3g", headline=False)
SHOWN = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # steps of the roll-out whose error a test reports


class RollOut(Regress):
    """The mean squared error of all states asked for, as ``Regress``; one step ahead, or many: what the data ask.

    "nrmse" is |found - true| / |true| in the norm over the channels, the mean over the steps (Koehler et al. 2024);
    "nrmse_at_K" is that after K steps. Persistence is the forecast that the state stays as it is given.
    """

    metrics = (NRMSE, PERSISTENCE, METRICS["rmse"])
    targets = (Series,)

    def for_target(self, target: Target) -> Objective:
        assert isinstance(target, Series)
        return RollOut(target)

    def judge(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        values = super().judge(outputs, batch)
        assert batch.targets is not None
        there = channel_mask(batch.targets, batch.mask if batch.target_times is None else batch.target_mask)
        truth = self.in_units(batch.targets)
        errors = relative_errors(self.in_units(outputs.detach()), truth, there)
        persistent = relative_errors(self.in_units(batch.inputs[:, -1:]), truth, there)
        for name, error in (("nrmse", errors), ("nrmse_persistence", persistent)):
            values[name] = over_steps(error, there)
            values |= {f"{name}_at_{k}": error[:, k - 1] for k in SHOWN if k <= error.shape[1]}
        return values

    def in_units(self, x: Tensor) -> Tensor:
        """A batch's values [..., D] in the units of the data."""
        if self.series is None or self.series.scale is None or self.series.mean is None:
            return x
        return x.new_tensor(self.series.mean) + x.new_tensor(self.series.scale) * x


def relative_errors(found: Tensor, truth: Tensor, there: Tensor) -> Tensor:
    """[B, S]: |found - truth| / |truth| over those channels of [B, S, D] that are ``there``."""
    distance = torch.where(there, found - truth, 0.0).norm(dim=-1)
    return distance / torch.where(there, truth, 0.0).norm(dim=-1)


def over_steps(errors: Tensor, there: Tensor) -> Tensor:
    """[B]: the mean over the steps of which anything is there."""
    asked = there.any(-1)
    return torch.where(asked, errors, 0.0).sum(1) / asked.sum(1)
