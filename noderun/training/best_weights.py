"""Early stopping without a look at the test: the weights that were best on the validation split."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from noderun.training.callbacks import Callback
from noderun.training.setup import Setup

if TYPE_CHECKING:
    from noderun.training.run import Run


log = logging.getLogger(__name__)


class BestWeights(Callback):
    """Keeps the weights whose validation was best, and puts them into the model once the run has come to its end.

    The end comes early after ``patience`` tests in a row that were no better.

    Training goes on from the last weights, in a longer run too; the best ones are what its result and every later use
    of the run are about. They are compared by the objective's first metric, since the model's depth was last doubled.
    """

    def __init__(self, setup: Setup, patience: int | None = None) -> None:
        self.setup, self.patience = setup, patience
        self.tests = 0  # since the best one
        self.value = float("inf")
        self.weights: dict[str, Tensor] = {}

    def on_test_end(self, run: Run) -> None:
        progress, model = run.progress, self.setup.model
        if not self.setup.validated:
            return
        value = self.validation(progress.test)
        self.tests += 1
        if value < self.value or self.weights.keys() != model.state_dict().keys():
            self.value = value
            self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
            progress.best = progress.test
            self.tests = 0
        elif self.tests == self.patience:
            progress.stopped = True
            log.info("validation was best %d epochs ago (trainer.patience): training ends", self.tests)

    def validation(self, numbers: Mapping[str, float]) -> float:
        """What is to be small: the first metric that has a better side, with its sign, else the loss."""
        metrics = [metric for metric in self.setup.objective.metrics if metric.better and metric.tag.endswith("/test")]
        tag = metrics[0].tag if metrics else "loss/test"
        sign = -1 if metrics and metrics[0].better == "higher" else 1
        return sign * numbers[tag.replace("/test", "/validation")]

    def on_fit_end(self) -> None:
        if self.weights:
            self.setup.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "weights": self.weights, "tests": self.tests} if self.weights else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.value, self.weights = state.get("value", self.value), state.get("weights", {})
        self.tests = state.get("tests", 0)
