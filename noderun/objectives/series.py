"""The objective of series models: what the task of the data asks for."""

from __future__ import annotations

from torch import Tensor, nn

from noderun.data import Batch, Classes, Series, Target, Values
from noderun.objectives.classify import ClassifySeries
from noderun.objectives.objective import Objective
from noderun.objectives.regress import Regress


class SeriesObjective(Objective):
    """Cross entropy of classes, squared error of values and of series."""

    targets = (Classes, Values, Series)

    def for_target(self, target: Target) -> Objective:
        return (ClassifySeries() if isinstance(target, Classes) else Regress()).for_target(target)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError("the target of the data decides between classify and regress: see for_target()")
