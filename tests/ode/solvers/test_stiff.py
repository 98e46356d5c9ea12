"""Stiff problems: radau5 and bdf beside scipy's Radau and BDF, the others against the accuracy they are asked for."""

import functools
import warnings

import numpy as np
import pytest
import torch
from problems import STIFF
from scipy.integrate import solve_ivp

import noderun

PEERS = {"radau5": "Radau", "bdf": "BDF"}


def tensors(name):
    return lambda t, y: torch.stack(STIFF[name].f(*y))


def jacobian(name):
    f = tensors(name)
    return lambda t, y: torch.autograd.functional.jacobian(lambda x: f(t, x), torch.tensor(y)).numpy()


@functools.cache
def peer(name: str, method: str, rtol: float):
    """y(t1) and the cost by scipy, with the exact Jacobian, so that its calls of f are those of the solver alone."""
    problem = STIFF[name]
    sol = solve_ivp(
        lambda t, y: np.array(problem.f(*y)),
        (0, problem.t1),
        problem.y0,
        method=method,
        rtol=rtol,
        atol=rtol * problem.scale,
        jac=jacobian(name),
    )
    return sol.y[:, -1], sol.nfev + len(problem.y0) * sol.njev


@functools.cache
def end(name: str) -> np.ndarray:
    return np.array(STIFF[name].end or peer(name, "Radau", 1e-11)[0])


def error(name: str, y: np.ndarray) -> float:
    return float(np.max(np.abs(y - end(name)) / np.abs(end(name))))


def ours(name: str, solver: str, rtol: float):
    problem = STIFF[name]
    y0 = torch.tensor(problem.y0, dtype=torch.float64)
    with torch.no_grad():
        sol = noderun.solve(tensors(name), y0, [0.0, problem.t1], solver=solver, rtol=rtol, atol=rtol * problem.scale)
    return error(name, sol.ys[-1].numpy()), sol.stats.nfe_forward + len(problem.y0) * sol.stats.jacobians


def ratios(name: str, solver: str, tolerances: list[float]) -> list[float]:
    """Our cost over that of scipy's method at the error that we reach, by its own work-precision line."""
    points = [peer(name, PEERS[solver], rtol) for rtol in tolerances]
    line = sorted((np.log(error(name, y)), np.log(cost)) for y, cost in points)
    found = [ours(name, solver, rtol) for rtol in tolerances]
    return [cost / np.exp(np.interp(np.log(reached), *zip(*line, strict=True))) for reached, cost in found]


@pytest.mark.parametrize("solver", PEERS)
def test_hires_costs_no_more_than_twice_scipy(solver):
    assert max(ratios("hires", solver, [1e-3, 1e-5])) <= 2


@pytest.mark.long
@pytest.mark.parametrize("name", STIFF)
@pytest.mark.parametrize("solver", PEERS)
def test_costs_no_more_than_twice_scipy(name, solver):
    assert max(ratios(name, solver, [1e-4, 1e-6, 1e-8])) <= 2


@pytest.mark.parametrize("solver", ["kvaerno5", "rodas4", "auto", "kvaerno3", "trbdf2", "sdirk2", "rosenbrock23"])
def test_rober_reaches_the_accuracy_class(solver):
    assert ours("rober", solver, 1e-3)[0] < 2e-2


@pytest.mark.long
@pytest.mark.parametrize("name", STIFF)
@pytest.mark.parametrize("solver", ["kvaerno5", "rodas4", "auto"])
def test_reaches_the_accuracy_class(name, solver):
    assert ours(name, solver, 1e-6)[0] < 1e-4


def test_auto_is_as_cheap_as_the_method_that_fits():
    """dopri5 where nothing is stiff; radau5 where dopri5 would take a hundred thousand steps."""
    y0 = torch.tensor([1.0, 0.0], dtype=torch.float64)
    with torch.no_grad():
        easy = noderun.solve(lambda t, y: torch.stack([y[1], -y[0]]), y0, [0.0, 20.0], solver="auto")
        explicit = noderun.solve(lambda t, y: torch.stack([y[1], -y[0]]), y0, [0.0, 20.0], solver="dopri5")
    assert easy.stats.jacobians == 0 and easy.stats.nfe_forward == explicit.stats.nfe_forward
    cost = {solver: ours("rober", solver, 1e-4)[1] for solver in ("auto", "radau5")}
    assert cost["auto"] < 3 * cost["radau5"]


@pytest.mark.parametrize("per_sample", [False, True])
def test_an_adjoint_that_crawls_back_says_so_long_before_its_step_limit(per_sample):
    rate = torch.tensor(1e4, dtype=torch.float64, requires_grad=True)
    f = lambda t, y, rate: rate * (torch.cos(t) - y)  # noqa: E731
    options = dict(solver="rodas4", args=(rate,), rtol=1e-4, atol=1e-6, per_sample=per_sample, max_steps=400)
    y0 = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    sol = noderun.solve(f, y0, [0.0, 1.0], gradient="adjoint", **options)
    with pytest.warns(RuntimeWarning, match=r"has taken 1\d\d steps so far.*gradient='checkpointed'"):
        with pytest.raises(noderun.StepLimit, match="in the backward pass"):
            sol.ys[-1].sum().backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noderun.solve(f, y0, [0.0, 1.0], gradient="checkpointed", **options).ys[-1].sum().backward()
        gentle = lambda t, y, rate: rate * 1e-4 * (1 - y)  # noqa: E731
        easy = dict(rtol=1e-4, gradient_rtol=1e-10, gradient_atol=1e-10, args=(rate,), per_sample=per_sample)
        noderun.solve(gentle, y0, [0.0, 1.0], gradient="adjoint", **easy).ys[-1].sum().backward()
