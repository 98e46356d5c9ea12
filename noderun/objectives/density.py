"""Density estimation by maximum likelihood."""

from __future__ import annotations

from torch import Tensor, nn

from noderun.data import Batch, Density
from noderun.objectives.objective import Objective
from noderun.record.metric import METRICS


class MeanNLL(Objective):
    """The model returns log p(x) [B] in nats; the loss is the mean of -log p(x)."""

    metrics = (METRICS["nll"],)
    targets = (Density,)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        nll = -model(batch.inputs).float().mean()
        return {"loss": nll, "nll": nll.detach()}
