"""Two components of a state of three: curves are projected, and the field is that on a slice through the mean."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from noderun.data import Batch
from noderun.evaluation.depth import flow_rows, trajectory_rows
from noderun.models import ODEBlock
from noderun.ode.configured import ConfiguredSolve
from noderun.report.figures import FIGURES

A = torch.tensor([[0.0, -2.0, 0.5], [2.0, 0.0, 1.0], [0.3, 0.0, -1.0]])


class Linear(nn.Module):
    def forward(self, t, y):
        return y @ A.T


@pytest.fixture
def setup():
    block = ODEBlock(Linear(), ConfiguredSolve(rtol=1e-6, atol=1e-6))
    inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    batch = Batch(inputs, torch.arange(4) % 2)
    return SimpleNamespace(model=nn.Sequential(block), blocks=[block], batches=lambda *at: iter([batch])), inputs


def test_a_flow_of_three_dimensions_is_shown_in_two_of_them(setup, tmp_path):
    made, y0 = setup
    rows = flow_rows(made, (1, 3))
    ends = [row for row in rows if row["kind"] == "ode" and row["t"] == 1.0]
    truth = y0 @ torch.matrix_exp(A).T
    assert torch.allclose(torch.tensor([[row["x"], row["y"]] for row in ends]), truth[:, [0, 2]], atol=1e-4)
    middle = (y0 @ torch.matrix_exp(A / 2).T).mean(0)
    for row in [row for row in rows if row["kind"] == "field"][::40]:
        slope = A @ torch.tensor([row["x"], middle[1], row["y"]])
        assert (row["u"], row["v"]) == pytest.approx(slope[[0, 2]].tolist(), abs=1e-4)
    FIGURES["flow"].draw(rows, tmp_path / "flow.png")
    assert (tmp_path / "flow.png").is_file()
    moved = [row for row in trajectory_rows(made, (3, 1)) if row["depth"] == 1.0]
    assert torch.allclose(torch.tensor([[row["x"], row["y"]] for row in moved]), truth[:, [2, 0]], atol=1e-4)


def test_components_that_are_not_there_are_said(setup):
    with pytest.raises(ValueError, match=r"this state has 3: name two by plane=\[1,2\]"):
        flow_rows(setup[0])
    with pytest.raises(ValueError, match=r"plane=\[1,4\] names component 4 of a state that has 3"):
        flow_rows(setup[0], (1, 4))
