"""Classification by cross entropy."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from noderun.data import Batch, Classes
from noderun.objectives.objective import Objective, predict
from noderun.record.metric import METRICS


class Classify(Objective):
    """The model returns logits [B, K]; "error" is the fraction that is misclassified."""

    metrics = (METRICS["test_error"],)
    targets = (Classes,)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None
        logits = predict(model, batch).float()
        wrong = logits.detach().argmax(dim=1) != batch.targets
        return {"loss": functional.cross_entropy(logits, batch.targets), "error": wrong.float().mean()}
