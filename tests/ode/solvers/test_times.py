"""f is called at times of the interval of a solve alone, on its own side of a jump, and stages are where they say."""

import math

import numpy as np
import pytest
import torch

import noderun
from noderun import solve
from noderun.ode.solvers import METHODS
from noderun.ode.solvers.rosenbrock import Rosenbrock
from noderun.ode.solvers.times import bounds_of

PAIRS = ("leapfrog", "semi_implicit_euler", "yoshida4")  # on a state (q, p) only
STEPS = {name: {} if info.adaptive else {"dt": 0.3} for name, info in noderun.SOLVERS.items()}
# No end is a number of float32, and in double precision t + (end - t) may lie beyond the end.
WAYS = [(torch.float32, -0.3, 0.1), (torch.float64, 0.1, -0.7)]


def field(seen):
    """f, and y0, of a solver; every time that f sees is noted."""

    def f(t, y, rate):
        seen.extend(t.detach().flatten().tolist())
        if isinstance(y, tuple):
            return y[1] * rate, torch.sin(t) - y[0]
        return torch.sin(t) - rate * y

    return f


def start(solver, dtype):
    y0 = torch.ones(2, 2, dtype=dtype, requires_grad=True)
    return (y0, y0.detach()) if solver in PAIRS else y0


def works(call):
    """The solution, None where this pair of a solver and a gradient is refused."""
    try:
        return call()
    except ValueError as refusal:
        assert any(word in str(refusal) for word in ("gradient", "per_sample", "solver")), refusal
        return None


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("solver", STEPS)
def test_f_is_never_called_outside_of_the_interval(solver, per_sample):
    for gradient in noderun.GRADIENTS:
        for dtype, first, last in WAYS:
            seen, y0, rate = [], start(solver, dtype), torch.tensor(0.7, dtype=dtype, requires_grad=True)
            ts = torch.tensor([first, (first + last) / 2, last], dtype=torch.float64, requires_grad=True)
            options = dict(solver=solver, gradient=gradient, per_sample=per_sample, rtol=1e-2, **STEPS[solver])
            sol = works(lambda: solve(field(seen), y0, ts, args=(rate,), atol=1e-2, **options))  # noqa: B023
            if sol is not None:
                ys = sol.ys[0] if solver in PAIRS else sol.ys
                ys.square().sum().backward()
                assert min(first, last) <= min(seen) and max(seen) <= max(first, last), (gradient, dtype)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("way", [(0.0, 3.0), (3.0, 0.0)])
@pytest.mark.parametrize("solver", sorted(STEPS.keys() - {*PAIRS, "scipy"}))
def test_a_jump_at_either_end_is_not_seen(solver, way, per_sample):
    levels = torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)  # read at 3 by nobody
    f = lambda t, y: levels[t.flatten()[0].int()] + 0 * y  # noqa: E731
    sol = works(
        lambda: solve(
            f,
            torch.zeros(1, 1).double(),
            way,
            solver=solver,
            jump_ts=[0, 1, 2, 3],
            per_sample=per_sample,
            **STEPS[solver],
        )
    )
    if sol is not None:
        assert abs(sol.ys[-1].item() - math.copysign(3.0, way[1] - way[0])) < 1e-9


@pytest.mark.parametrize("gradient", ["backprop", "checkpointed", "adjoint", "interpolated"])
def test_gradients_pass_through_a_jump_at_the_end(gradient):
    rate = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    ts = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    f = lambda t, y, rate: torch.where(t < 1, rate, torch.nan) * y  # noqa: E731
    options = dict(gradient=gradient, jump_ts=[1.0], rtol=1e-9, atol=1e-9)
    end = solve(f, torch.ones(1).double(), ts, args=(rate,), **options).ys[-1].sum()
    grads = torch.autograd.grad(end, (rate, ts))
    growth = math.exp(0.5)
    torch.testing.assert_close(grads[0].item(), growth, rtol=1e-7, atol=0)
    torch.testing.assert_close(grads[1], torch.tensor([-0.5 * growth, 0.5 * growth]).double(), rtol=1e-7, atol=0)


@pytest.mark.parametrize("solver", sorted(STEPS.keys() - {*PAIRS, "scipy"}))
def test_the_gradient_of_a_time_is_f_there(solver):
    """What is left to the slope of the flow is the method's own error."""
    f = lambda t, y: torch.cos(t) * y  # noqa: E731
    ts = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64, requires_grad=True)
    ys = solve(f, torch.ones(1).double(), ts, solver=solver, rtol=1e-2, atol=1e-2, **STEPS[solver]).ys[:, 0]
    for i in (1, 2):
        (grad,) = torch.autograd.grad(ys[i], ts, retain_graph=True)
        torch.testing.assert_close(grad[i], f(ts[i], ys[i]).detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_bounds_are_the_nearest_numbers_inside(dtype):
    for low, high in [(0.1, 0.3), (-0.3, -0.1), (0.0, 1e-3), (-1.0, 1.0), (1e-42, 1.0), (5.0, math.inf)]:
        for ts in ((low, high), (high, low)):
            bounds = bounds_of(ts, (), dtype)
            assert low <= bounds.low <= bounds.high <= high
            for bound, end in ((bounds.low, low), (bounds.high, high)):
                assert torch.tensor(bound, dtype=dtype).item() == bound
                assert bound == end or abs(bound - end) <= max(2 * torch.finfo(dtype).eps * abs(end), 1e-37)


def test_nodes_are_the_sums_of_the_rows():
    for name, method in METHODS.items():
        tableau = getattr(method, "tableau", None)
        if isinstance(method, Rosenbrock):  # in the variables u = Gamma k; Hairer, Wanner II, (IV.7.24)
            gamma = np.linalg.inv(np.eye(len(tableau.m)) / tableau.gamma - square(tableau.c))
            np.testing.assert_allclose((square(tableau.a) @ gamma).sum(1), tableau.alpha, atol=1e-12, err_msg=name)
            np.testing.assert_allclose(gamma.sum(1), tableau.slopes, atol=1e-12, err_msg=name)
        elif tableau is not None:
            rows = [*tableau.a, *tableau.dense_a, tableau.b]
            nodes = [*tableau.c, *tableau.dense_c, 1.0]
            np.testing.assert_allclose([sum(row) for row in rows], nodes, atol=1e-14, err_msg=name)


def square(rows):
    return np.array([[*row, *[0.0] * (len(rows) - len(row))] for row in rows])
