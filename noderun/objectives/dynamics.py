"""Objectives of models whose state is observed: their trajectories, or their field alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from noderun.data import Batch, DataError, Series, Target
from noderun.data.system import System
from noderun.models.observed import ObservedState
from noderun.objectives.objective import Objective
from noderun.objectives.regress import squared_error
from noderun.record.metric import METRICS, Metric

ENERGY = Metric("energy_error", "energy error", ".2e")


class Trajectory(Objective):
    """The solved trajectory against what was observed; the loss is the model's own, or the mean squared error.

    "energy_error" is the mean squared error of the energy along it (Greydanus et al. 2019, section 3), where the
    system has one.
    """

    metrics: tuple[Metric, ...] = (METRICS["rmse"],)
    targets = (Series,)
    models = (ObservedState,)

    def __init__(self, target: Series | None = None) -> None:
        self.system, self.scale = (target.system, target.scale) if target else (System(), None)
        if self.system.energy is not None:
            self.metrics = (*self.metrics, ENERGY)

    def for_target(self, target: Target) -> Objective:
        assert isinstance(target, Series)
        return type(self)(target)

    def __call__(self, model: Any, batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None
        mask = batch.mask if batch.target_times is None else batch.target_mask
        outputs = model(batch.inputs, batch.times, batch.mask, batch.target_times, batch.index)
        mse = squared_error(outputs, batch.targets, mask)
        reported = mse if self.scale is None else squared_error(outputs, batch.targets, mask, self.scale)
        own: Any = getattr(model, "loss", None)
        loss = own(outputs, batch.targets, mask) if own else mse
        values = {"loss": loss.mean(), "mse": reported.detach()}
        energy = self.system.energy
        if energy is not None:
            error = energy(model.in_units(outputs.detach())) - energy(model.in_units(batch.targets))
            values["energy_error"] = error.square().mean(1)
        return values


class Derivative(Trajectory):
    """The field at observed states against the true derivative there; nothing is solved in training.

    As Greydanus et al. (2019) train, equation 3. In testing the trajectories are solved as well.
    """

    def for_target(self, target: Target) -> Objective:
        if not isinstance(target, Series) or target.system.field is None:
            raise DataError(
                "model.objective=derivative needs data whose true derivative is known (two_body, cubic_spiral); "
                "give model.objective=trajectory"
            )
        return super().for_target(target)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert batch.times is not None and self.system.field is not None
        observed: Any = model
        states = observed.in_units(batch.inputs).flatten(0, 1)
        since = (batch.times - batch.times[:, :1]).reshape(-1, 1)
        loss = (observed.field(since, states) - self.system.field(states)).square().mean()
        if model.training:
            observed.block.stats = None  # nothing was solved
            return {"loss": loss}
        return super().__call__(model, batch) | {"loss": loss}
