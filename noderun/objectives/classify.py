"""Classification by cross entropy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from noderun.data import Batch, Classes, Target
from noderun.objectives.objective import Objective, predict
from noderun.objectives.roc import auc
from noderun.record.metric import METRICS, Metric


class Classify(Objective):
    """The model returns logits [B, K]; "error" is the fraction that is misclassified."""

    metrics: ClassVar[tuple[Metric, ...]] = (METRICS["test_error"],)
    targets = (Classes,)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None
        return self.values(predict(model, batch).float(), batch.targets, model.training)

    def values(self, logits: Tensor, labels: Tensor, training: bool) -> dict[str, Tensor]:
        wrong = logits.detach().argmax(dim=1) != labels
        return {"loss": functional.cross_entropy(logits, labels), "error": wrong.float().mean()}


class ClassifySeries(Classify):
    """Classification of series: the accuracy too and, of two classes, the area under the ROC curve."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        METRICS["test_error"],
        Metric("accuracy", "accuracy", ".2%", better="higher"),
    )

    def for_target(self, target: Target) -> Objective:
        return ClassifyBinary() if isinstance(target, Classes) and target.count == 2 else self

    def values(self, logits: Tensor, labels: Tensor, training: bool) -> dict[str, Tensor]:
        values = super().values(logits, labels, training)
        return values | {"accuracy": (logits.detach().argmax(dim=1) == labels).float()}


class ClassifyBinary(ClassifySeries):
    """A test also reports each example's score, logit 1 - logit 0, and whether it is of class 1."""

    metrics = (*ClassifySeries.metrics, Metric("auc", "AUC", ".3f", better="higher"))

    def values(self, logits: Tensor, labels: Tensor, training: bool) -> dict[str, Tensor]:
        values = super().values(logits, labels, training)
        if training:
            return values
        return values | {"score": logits[:, 1] - logits[:, 0], "positive": labels.float()}

    def over_split(
        self, model: nn.Module, batches: Iterator[Batch], values: Mapping[str, Tensor]
    ) -> Mapping[str, float | Tensor]:
        area, error = auc(values["score"], values["positive"] > 0)
        return {"auc": area, "auc_se": error}
