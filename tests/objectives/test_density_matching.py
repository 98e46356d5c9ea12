"""Density matching: the divergence of a flow from an energy, against closed forms."""

import math

import pytest
import torch

from noderun.data import Batch, Energy
from noderun.models import MODELS
from noderun.models.flow import Flow
from noderun.objectives import OBJECTIVES


class Scale(Flow):
    """N(0, s^2)."""

    def decode_with_log_det(self, z, index=None):
        return 2 * z, torch.full((len(z),), 2 * math.log(2.0), dtype=z.dtype)


def test_the_divergence_of_two_normals():
    """KL(N(0, 4 I) || N(0, I)) = 3/2 - log 2 per dimension."""
    target = Energy(2, lambda z: 0.5 * z.square().sum(1), math.log(2 * math.pi))
    objective = OBJECTIVES["density_matching"]().for_target(target)
    z = torch.randn(100_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = objective(Scale((2,)), Batch(z))
    assert values["kl"].mean().item() == pytest.approx(2 * (1.5 - math.log(2)), abs=0.03)


@pytest.mark.parametrize("formula", ["encode", "decode"])
def test_planar_layers_learn_an_energy_in_either_direction(formula):
    torch.manual_seed(0)
    target = Energy(2, lambda z: 0.5 * ((z - 1) / 0.5).square().sum(1), math.log(2 * math.pi * 0.25))
    objective = OBJECTIVES["density_matching"]().for_target(target)
    flow = MODELS["planar_nf"]((2,), 2, layers=8, formula=formula)
    optimizer = torch.optim.Adam(flow.parameters(), lr=2e-2)
    first = None
    for _ in range(60):
        loss = objective(flow, Batch(torch.randn(256, 2)))["loss"]
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2 * first
