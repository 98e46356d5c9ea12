"""Rows for the picture of a roll-out in space and time."""

from __future__ import annotations

from typing import Any

import torch

from noderun.evaluation.series import first_series
from noderun.models.observed import NeuralODE
from noderun.objectives.rollout import RollOut
from noderun.training.setup import Setup

TIMES = 200  # columns of the picture at most


@torch.no_grad()
def spacetime_rows(setup: Setup) -> list[dict[str, Any]]:
    """The first test trajectory and the model's, from one state; ValueError if states are not fields on a grid."""
    setup.model.eval()
    if not (isinstance(setup.objective, RollOut) and isinstance(setup.model, NeuralODE)):
        raise ValueError("this picture is of a field on a grid: model=neural_pde or convnet_stepper")
    batch = first_series(setup, 1)
    assert batch.times is not None and batch.targets is not None and batch.target_times is not None
    found = setup.model(batch.inputs, batch.times, batch.mask, batch.target_times)
    every = -(-found.shape[1] // TIMES)
    parts = (batch.target_times[0], batch.targets[0], found[0])
    return [
        {"step": step, "point": point, "truth": truth, "model": value}
        for step, truths, values in zip(*(part[::every].tolist() for part in parts), strict=True)
        for point, (truth, value) in enumerate(zip(truths, values, strict=True))
    ]
