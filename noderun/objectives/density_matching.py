"""Density matching: a flow's own samples are to have the density of an energy."""

from __future__ import annotations

from torch import Tensor, nn

from noderun.data import Batch, Energy, Target
from noderun.models import Flow
from noderun.models.flow import log_normal
from noderun.objectives.objective import Objective
from noderun.record.metric import Metric


class DensityMatching(Objective):
    """KL(q || p) of the model's density q from p = exp(-U) / Z: the mean over x ~ q of log q(x) + U(x) + log Z.

    x is drawn from the batch's points of a standard normal (Rezende and Mohamed 2015, equation 23; Chen et al.
    2018, section 5.1).
    """

    metrics = (Metric("kl", "KL(q || p)", ".3f", unit="nats"),)
    models = (Flow,)
    targets = (Energy,)

    def __init__(self, target: Energy | None = None) -> None:
        self.target = target

    def for_target(self, target: Target) -> Objective:
        assert isinstance(target, Energy)
        return DensityMatching(target)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(model, Flow) and self.target is not None
        z = batch.inputs
        x, log_det = model.decode_with_log_det(z, batch.index)
        kl = log_normal(z) - log_det + self.target.energy(x) + self.target.log_normalizer
        return {"loss": kl.mean(), "kl": kl.detach()}
