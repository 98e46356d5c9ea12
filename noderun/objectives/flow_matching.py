"""Flow matching: regression on the velocities of paths from the source to the data."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from noderun.data import Batch, Density, Target
from noderun.data.batch import joined
from noderun.models.flow_matching import FlowMatching as Model
from noderun.models.optimal_transport import w2_squared
from noderun.objectives.density import MeanNLL
from noderun.objectives.objective import Objective
from noderun.record.metric import METRICS, Metric

COUPLING = Metric("coupling_ms", "OT pairing", ".2f", "ms/step", tag="coupling_ms/train", headline=False)
WITHIN_CLASSES = Metric("w2_squared_classes", "W2 squared within classes", ".3f")


class FlowMatching(MeanNLL):
    """The loss of training is the regression's (Lipman et al. 2023, equation 9); that of the test is -log p(x)."""

    metrics = (METRICS["nll"], COUPLING)
    models = (Model,)

    def for_target(self, target: Target) -> Objective:
        if isinstance(target, Density) and target.source:
            return Transport(target.classes is not None)
        return super().for_target(target)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(model, Model)
        return regression(model, batch) if model.training else super().__call__(model, batch)


class Transport(Objective):
    """From data to data: the loss is the regression's in training and test; what is moved is compared as a cloud.

    "w2_squared" is the squared 2-Wasserstein distance of moved source points to test points, by the solver and by one
    Euler step; with classes the points of all are one cloud, as Cheng and Schwing (2025) measure, and
    "w2_squared_classes" is the mean of the distances within each class. "path_energy" is |E - W| / W with E the mean of
    the integral of |f|^2 along the paths and W the squared distance of source and data (within classes, if there are
    any), which is the least E there is (Tong et al. 2024); "straightness" the mean of the integral of
    |x(1) - x(0) - f|^2, 0 for straight paths (Liu et al. 2023).
    """

    metrics: tuple[Metric, ...] = (
        Metric("w2_squared", "W2 squared", ".3f"),
        Metric("w2_squared_euler", "W2 squared, one Euler step", ".3f"),
        Metric("path_energy", "normalized path energy", ".3f"),
        Metric("straightness", "straightness", ".3f", headline=False),
        COUPLING,
    )
    targets = (Density,)

    def __init__(self, classes: bool = False) -> None:
        if classes:
            self.metrics += (WITHIN_CLASSES,)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(model, Model)
        return regression(model, batch)

    def over_split(self, model: nn.Module, batches: Iterator[Batch]) -> dict[str, Tensor]:
        assert isinstance(model, Model)
        batch = first_points(model, batches)
        x1, x0, labels = batch.inputs, batch.source, batch.targets
        assert x0 is not None
        x, energy = model.transport(x0, labels)
        least = w2_squared(x0, x1, labels)
        within = {} if labels is None else {"w2_squared_classes": w2_squared(x, x1, labels)}
        (stats,) = model.sampling_stats
        return {
            "nfe_sampling": torch.as_tensor(stats.nfe_forward, dtype=torch.float64).mean(),
            "w2_squared": w2_squared(x, x1),
            "w2_squared_euler": w2_squared(model.euler(x0, labels), x1),
            "path_energy": (energy.mean() - least).abs() / least,
            # f is dx/dt, so that the integral of |x(1) - x(0) - f|^2 is that of |f|^2 less |x(1) - x(0)|^2
            "straightness": (energy - (x - x0).square().flatten(1).sum(1)).mean(),
        } | within


def regression(model: Model, batch: Batch) -> dict[str, Tensor]:
    return model.regression(batch.inputs, batch.source, batch.targets)


def first_points(model: Model, batches: Iterator[Batch]) -> Batch:
    """The first ``transport_points`` of the data, with as many of the source."""
    parts: list[Batch] = []
    while sum(map(len, parts)) < model.transport_points and (batch := next(batches, None)) is not None:
        parts.append(batch)
    return joined(parts).rows(slice(model.transport_points))
