"""The interface of an objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn

from noderun.data import TARGETS, Batch, Target
from noderun.record.metric import Metric


class Objective(ABC):
    """A loss to be minimized, and the numbers to be reported beside it.

    ``metrics`` describe what is shown of it in results, tables and the ledger. ``targets`` are the kinds of target that
    a data set must ask for, ``models`` the classes of models that it can train. ``step`` is the number of optimizer
    steps made so far, which training keeps.
    """

    step: int = 0
    metrics: tuple[Metric, ...] = ()
    targets: ClassVar[tuple[type, ...]] = TARGETS
    models: ClassVar[tuple[type, ...]] = (nn.Module,)

    def outputs(self, target: Target) -> int:
        """The number of outputs per example (and time) that a model needs."""
        return target.outputs

    def for_target(self, target: Target) -> Objective:
        """The objective as it is for a data set's target."""
        return self

    def over_split(self, model: nn.Module, batches: Iterator[Batch]) -> dict[str, Tensor]:
        """Numbers [] about a whole test split, such as the distance between two distributions of points."""
        return {}

    @abstractmethod
    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """ "loss" [], which is differentiated, then any others, detached.

        They are means over the batch []; or values per example [B], whose mean is reported, and in testing its
        standard error. A value named "nll" is recorded under the tags nll/train and nll/test, which a Metric may name.
        """


def predict(model: nn.Module, batch: Batch) -> Tensor:
    """``model(inputs)``, or of a series ``model(inputs, times, mask)``, with target_times if targets have their own."""
    if batch.times is None:
        return model(batch.inputs)
    if batch.target_times is None:
        return model(batch.inputs, batch.times, batch.mask)
    return model(batch.inputs, batch.times, batch.mask, batch.target_times)
