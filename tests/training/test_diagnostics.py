"""Diagnostics of y' = a y, whose solutions and gradients are known."""

import math
import time

import pytest
import torch
from torch import nn

from noderun.data import Batch
from noderun.models import ODEBlock
from noderun.objectives import Objective
from noderun.ode.configured import ConfiguredSolve
from noderun.record import notice
from noderun.training import block_pass, diagnostics
from noderun.training.diagnostics import diagnose
from noderun.training.setup import Setup

A = 0.7


class Growth(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(A))

    def forward(self, t, y):
        return self.a * y


class Total(Objective):
    def __call__(self, model, batch):
        return {"loss": model(batch.inputs).sum()}


def measured(**solve):
    block = ODEBlock(Growth(), ConfiguredSolve(**solve))
    model = nn.Sequential(block)
    setup = Setup(
        model=model,
        blocks=[block],
        objective=Total(),
        optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
        lr_schedule=lambda step: 1.0,
        batches=lambda split, epoch, start: iter(()),
        steps_per_epoch=1,
        device=torch.device("cpu"),
    )
    row = diagnose(setup, Batch(torch.ones(3, 2)))
    assert all(p.grad is None for p in model.parameters())
    return row


@pytest.mark.parametrize("steps", [1, 4])
def test_euler_with_fixed_steps(steps):
    h = 1 / steps
    row = measured(solver="euler", dt=h, gradient="backprop")
    growth = (1 + A * h) ** steps
    assert row["solve/numerical_error"] == pytest.approx(1 - growth / math.exp(A), rel=1e-4)
    assert row["solve/reconstruction_error"] == pytest.approx(1 - growth * (1 - A * h) ** steps, rel=1e-4)
    gradient = (1 + A * h) ** (steps - 1)  # d growth / da; that of the flow is e^a
    assert row["solve/gradient_error"] == pytest.approx(1 - gradient / math.exp(A), rel=1e-4)


def test_errors_fall_with_the_tolerance():
    loose, tight = (measured(solver="dopri5", rtol=tol, atol=tol, gradient="adjoint") for tol in (1e-1, 1e-5))
    for tag in ("solve/numerical_error", "solve/reconstruction_error", "solve/gradient_error"):
        assert 0 < tight[tag] < loose[tag] < 0.1


def test_what_cannot_be_measured_is_null_and_said(monkeypatch, caplog):
    monkeypatch.setitem(block_pass.REFERENCE, "max_steps", 1)
    row = measured(solver="dopri5", rtol=1e-3, atol=1e-3, gradient="adjoint")
    assert set(row) == set(diagnostics.MEASURES)
    unmeasured = {"solve/numerical_error", "solve/gradient_error", "solve/reconstruction_error"}
    assert {tag for tag in row if row[tag] is None} == unmeasured
    assert "solve/numerical_error was not measured: max_steps = 1" in caplog.text


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_what_takes_long_is_said(seconds, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(notice, "SOON", 0.15)
    only = {"time/forward_ms": lambda seen: time.sleep(seconds) or 1.0}
    monkeypatch.setattr(diagnostics, "MEASURES", only)
    measured(solver="euler", dt=1.0, gradient="backprop")
    assert ("measuring time/forward_ms" in caplog.text) == (seconds > 0)
