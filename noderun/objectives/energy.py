"""Amortized minimization: a net learns to solve by the energy that solutions minimize, without any solution."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from noderun.data import Batch, DataError, Target, Values
from noderun.objectives.objective import Objective, predict
from noderun.objectives.regress import squared_error
from noderun.record.metric import METRICS, Metric


class MinimalEnergy(Objective):
    """The mean of E(outputs; inputs) (Xue et al. 2020; Beatson et al. 2020).

    The targets are the outputs of least energy. The loss does not use them; "excess_energy" is how much E is above
    theirs, and "mse" the squared distance to them.
    """

    metrics = (Metric("excess_energy", "excess energy", ".2e"), METRICS["rmse"])
    targets = (Values,)

    def __init__(self, energy: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        self.energy = energy

    def for_target(self, target: Target) -> Objective:
        if not isinstance(target, Values) or target.energy is None:
            raise DataError(
                "model.objective=energy needs data whose targets minimize an energy (poisson); give "
                "model.objective=regress"
            )
        return MinimalEnergy(target.energy)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert self.energy is not None and batch.targets is not None
        outputs = predict(model, batch)
        energy = self.energy(batch.inputs, outputs)
        excess = energy.detach() - self.energy(batch.inputs, batch.targets)
        mse = squared_error(outputs.detach(), batch.targets, None)
        return {"loss": energy.mean(), "excess_energy": excess, "mse": mse}
