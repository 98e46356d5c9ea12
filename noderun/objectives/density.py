"""Density estimation by maximum likelihood."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from noderun.data import Batch, Density, Target
from noderun.models.flow import Flow
from noderun.objectives.objective import Objective
from noderun.record.metric import METRICS, Metric

ENTROPY = Metric("entropy", "entropy", ".3f", unit="nats", better=None, headline=False)
INVERTED = 16  # examples of a batch that are decoded again in testing


class MeanNLL(Objective):
    """The model returns log p(x) [B] in nats; the loss is the mean of -log p(x).

    Of quantized data bits per dimension are reported too: those of the values before they were scaled to [0, 1]. In
    testing a flow also decodes what it has encoded. Of a density whose entropy is known that is a metric too, since
    no model has a smaller mean NLL.
    """

    metrics: tuple[Metric, ...] = (METRICS["nll"],)
    targets = (Density,)
    entropy: float | None = None

    def for_target(self, target: Target) -> Objective:
        assert isinstance(target, Density)
        if target.entropy is None:
            return self
        known = copy.copy(self)
        known.entropy, known.metrics = target.entropy, (*self.metrics, ENTROPY)
        return known

    def over_split(self, model: nn.Module, batches: Iterator[Batch]) -> dict[str, Tensor]:
        return {} if self.entropy is None else {"entropy": torch.tensor(self.entropy, dtype=torch.float64)}

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(model, Flow):
            nll = -model(batch.inputs).float()
            return {"loss": nll.mean(), "nll": nll.detach()}
        way_back = {} if model.training else inverse_numbers(model, batch.rows(slice(INVERTED)))
        nll = -model(batch.inputs, batch.index, **given(batch)).float()  # last, so that NFE are those of the likelihood
        return {"loss": nll.mean()} | numbers(nll.detach(), model) | way_back


def numbers(nll: Tensor, model: Flow) -> dict[str, Tensor]:
    """-log p(x) [B] in nats and, of quantized data, in bits per dimension."""
    levels, dim = model.transform.levels, math.prod(model.shape)
    if levels is None:
        return {"nll": nll}
    return {"nll": nll, "bits_per_dim": nll / (dim * math.log(2)) + math.log2(levels)}


def given(batch: Batch) -> dict[str, Tensor]:
    """What the density is conditioned on: the classes, if the data set has them."""
    return {} if batch.targets is None else {"labels": batch.targets}


def inverse_numbers(model: Flow, batch: Batch) -> dict[str, Tensor]:
    """The error of decode(encode(x)), and the evaluations of f that sampling takes if it solves an ODE."""
    found = {"inverse_error": model.inverse_error(batch.inputs, **given(batch))}
    counts = [torch.as_tensor(stats.nfe_forward, dtype=torch.float64).mean() for stats in model.sampling_stats]
    return found | ({"nfe_sampling": torch.stack(counts).sum()} if counts else {})
