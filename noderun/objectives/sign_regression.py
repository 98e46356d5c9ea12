"""Two classes by regression on their sign (Dupont et al. 2019)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from noderun.data import Batch, Classes, Target
from noderun.objectives.objective import Objective, predict
from noderun.record.metric import METRICS


class SignRegression(Objective):
    """Smooth L1 of the model's one output to -1 and 1; "error" is the fraction on the wrong side.

    Unlike cross entropy it does not reward an ever larger margin, so the field has no reason to grow without end.
    """

    metrics = (METRICS["test_error"],)
    targets = (Classes,)

    def outputs(self, target: Target) -> int:
        return 1

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None
        outputs = predict(model, batch).float().squeeze(1)
        wrong = (outputs.detach() > 0) != (batch.targets > 0)
        return {"loss": functional.smooth_l1_loss(outputs, 2.0 * batch.targets - 1), "error": wrong.float().mean()}
