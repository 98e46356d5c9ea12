"""Strong orders by regression on one fixed path, moments, and adaptive steps."""

import functools
import math

import pytest
import torch
from sde_problems import GBM, METHODS, TANH, path

import noderun

STEPS = (16, 32, 64, 128, 256)


def slope(errors):
    """Of log error over log h, by least squares."""
    x = torch.tensor([-math.log(n) for n in STEPS], dtype=torch.float64)
    y = torch.tensor(errors, dtype=torch.float64).log()
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def errors(f, g, y0, exact, **told):
    """Mean absolute errors at t = 1 over the number of steps."""
    return [
        (noderun.sdesolve(f, g, y0, [0.0, 1.0], dt=1 / n, **told).ys[-1] - exact).abs().mean().item() for n in STEPS
    ]


@pytest.mark.parametrize(("solver", "interpretation"), METHODS)
@pytest.mark.parametrize("problem", [GBM, TANH], ids=["gbm", "tanh"])
def test_strong_order_on_diagonal_noise(problem, solver, interpretation):
    w, y0 = path(256, (1000, 1)), torch.full((1000, 1), problem.y0, dtype=torch.float64)
    found = errors(
        problem.drift[interpretation],
        problem.g,
        y0,
        problem.exact(y0, w(0.0, 1.0)),
        solver=solver,
        interpretation=interpretation,
        brownian=w,
    )
    assert slope(found) == pytest.approx(0.5 if solver == "euler" else 1.0, abs=0.12)


def drift(t, y):
    return torch.sin(y) - y


G = {"additive": lambda t, y: 0.5 * (1 + t).expand_as(y), "scalar": lambda t, y: 0.5 * torch.cos(y)}
ITO_DRIFT = {"additive": drift, "scalar": lambda t, y: drift(t, y) - 0.125 * torch.sin(y) * torch.cos(y)}


@functools.cache
def reference(noise):
    """y0, the path, and y(1) by Heun's method with an eighth of the smallest step, as there is no closed form."""
    y0 = torch.linspace(-1, 1, 200, dtype=torch.float64).repeat(2, 1).T.contiguous()
    w = path(2048, (200, 2) if noise == "additive" else (200,))
    told = {"solver": "heun", "interpretation": "stratonovich", "noise": noise, "brownian": w}
    return y0, w, noderun.sdesolve(drift, G[noise], y0, [0.0, 1.0], dt=1 / 2048, **told).ys[-1]


@pytest.mark.parametrize(("solver", "interpretation"), METHODS)
@pytest.mark.parametrize("noise", ["additive", "scalar"])
def test_strong_order_on_other_noise(solver, interpretation, noise):
    y0, w, exact = reference(noise)
    f = drift if interpretation == "stratonovich" else ITO_DRIFT[noise]
    told = {"noise": noise, "brownian": w, "solver": solver, "interpretation": interpretation}
    expected = 0.5 if (solver, noise) == ("euler", "scalar") else 1.0
    assert slope(errors(f, G[noise], y0, exact, **told)) == pytest.approx(expected, abs=0.12)


@pytest.mark.parametrize(("solver", "interpretation"), METHODS)
def test_moments_of_gbm_and_ou(solver, interpretation):
    """Within three standard errors of the exact ones; 20,000 samples, so that the bias of the steps is smaller."""
    y0 = torch.ones(20_000, 2, dtype=torch.float64)
    sol = noderun.sdesolve(
        lambda t, y: torch.cat([GBM.drift[interpretation](t, y[:, :1]), -2 * y[:, 1:]], dim=1),
        lambda t, y: torch.cat([GBM.g(t, y[:, :1]), torch.full_like(y[:, 1:], 0.6)], dim=1),
        y0,
        [0.0, 1.0],
        dt=1 / 256,
        solver=solver,
        interpretation=interpretation,
        seed=11,
    )
    gbm, ou = sol.ys[-1].unbind(1)
    variance = 0.36 * (1 - math.exp(-4)) / 4
    for values, mean, second in (
        (gbm, math.exp(0.4), math.exp(0.8 + 0.49)),
        (ou, math.exp(-2), variance + math.exp(-4)),
    ):
        for sample, expected in ((values, mean), (values**2, second)):
            assert abs(sample.mean() - expected) < 3 * sample.std() / len(sample) ** 0.5


@pytest.mark.parametrize(("solver", "interpretation"), [m for m in METHODS if m[0] != "reversible_heun"])
def test_adaptive_steps_stay_on_the_path(solver, interpretation):
    y0 = torch.full((200, 1), GBM.y0, dtype=torch.float64)
    found = []
    for tol in (1e-1, 1e-2, 1e-3):
        sol = noderun.sdesolve(
            GBM.drift[interpretation],
            GBM.g,
            y0,
            [0.0, 0.3, 1.0],
            solver=solver,
            interpretation=interpretation,
            rtol=tol,
            atol=tol,
            seed=2,
        )
        found.append((sol.ys[-1] - GBM.exact(y0, sol.brownian(0.0, 1.0))).abs().mean().item())
    assert sol.stats.rejected > 0 and sol.stats.accepted > 10
    assert found[0] > 2 * found[1] > 4 * found[2]
    assert torch.equal(sol.ys[0], y0) and sol.status == "done"
