"""Classification by cross entropy."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from noderun.data import Batch, Classes, Target
from noderun.objectives.objective import Objective, predict
from noderun.objectives.roc import auc
from noderun.record.metric import METRICS, Metric


class Classify(Objective):
    """The model returns logits [B, K]; "error" is the fraction that is misclassified."""

    metrics: tuple[Metric, ...] = (METRICS["test_error"],)
    targets = (Classes,)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return self.judge(predict(model, batch).float(), batch)

    def judge(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The values of a model's outputs."""
        assert batch.targets is not None
        wrong = logits.detach().argmax(dim=1) != batch.targets
        return {"loss": functional.cross_entropy(logits, batch.targets), "error": wrong.float().mean()}


class ClassifySeries(Classify):
    """Classification of series: the accuracy too and, of two classes, the area under the ROC curve."""

    metrics: tuple[Metric, ...] = (
        METRICS["test_error"],
        Metric("accuracy", "accuracy", ".2%", better="higher"),
    )

    def for_target(self, target: Target) -> Objective:
        return ClassifyBinary() if isinstance(target, Classes) and target.count == 2 else self

    def judge(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None
        right = logits.detach().argmax(dim=1) == batch.targets
        return super().judge(logits, batch) | {"accuracy": right.float()}


class ClassifyBinary(ClassifySeries):
    """The area under the ROC curve is of the scores logit 1 - logit 0 of a whole test."""

    metrics = (*ClassifySeries.metrics, Metric("auc", "AUC", ".3f", better="higher"))

    def over_split(self, model: nn.Module, batches: Iterator[Batch]) -> dict[str, Tensor]:
        scores, positive = [], []
        for batch in batches:
            assert batch.targets is not None
            logits = predict(model, batch).double()
            scores.append(logits[:, 1] - logits[:, 0])
            positive.append(batch.targets > 0)
        area, error = auc(torch.cat(scores), torch.cat(positive))
        return {"auc": area, "auc_se": error}
