"""Density estimation by maximum likelihood."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor, nn

from noderun.data import Batch, Density
from noderun.models.flow import Flow
from noderun.objectives.objective import Objective
from noderun.record.metric import METRICS, Metric


class MeanNLL(Objective):
    """The model returns log p(x) [B] in nats; the loss is the mean of -log p(x).

    Of quantized data bits per dimension are reported too: those of the values before they were scaled to [0, 1].
    """

    metrics: ClassVar[tuple[Metric, ...]] = (METRICS["nll"],)
    targets = (Density,)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(model, Flow):
            nll = -model(batch.inputs).float()
            return {"loss": nll.mean(), "nll": nll.detach()}
        nll = -model(batch.inputs, batch.index).float()
        return {"loss": nll.mean()} | numbers(nll.detach(), model)


def numbers(nll: Tensor, model: Flow) -> dict[str, Tensor]:
    """-log p(x) [B] in nats and, of quantized data, in bits per dimension."""
    levels, dim = model.transform.levels, math.prod(model.shape)
    if levels is None:
        return {"nll": nll}
    return {"nll": nll, "bits_per_dim": nll / (dim * math.log(2)) + math.log2(levels)}
