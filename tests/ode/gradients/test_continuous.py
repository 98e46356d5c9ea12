"""The adjoint as a solve of its own: its error falls with its tolerance, and what it costs is counted."""

import math

import pytest
import torch
from gradient_problems import F64, Field, gradients, pairs, relative
from torch import nn

import noderun

CONTINUOUS = [name for name, info in noderun.GRADIENTS.items() if not info.exact]
TIMES = torch.tensor([0.0, 0.6, 1.0, 1.7], dtype=F64)


@pytest.fixture(scope="module")
def reference():
    return gradients("dop853", "backprop", TIMES, rtol=1e-12, atol=1e-12)[0]


@pytest.mark.parametrize(("solver", "gradient"), [p for p in pairs() if p[1] in CONTINUOUS])
def test_the_error_falls_with_the_tolerance(solver, gradient, reference):
    if noderun.SOLVERS[solver].adaptive:
        coarse, fine = ({"rtol": tol, "atol": tol} for tol in (1e-3, 1e-5))
    else:
        coarse, fine = {"dt": 0.1}, {"dt": 0.1 / 8}
    errors = [relative(gradients(solver, gradient, TIMES, **options)[0], reference) for options in (coarse, fine)]
    assert errors[1] < 0.2 * errors[0] or errors[1] < 1e-9
    assert errors[1] < (5e-2 if noderun.SOLVERS[solver].order == 1 else 2e-3)


def test_each_output_more_costs_at_most_seven_evaluations():
    def cost(n):
        _, sol = gradients("dopri5", "adjoint", torch.linspace(0, 3, n, dtype=F64), rtol=1e-7, atol=1e-7)
        return sol.stats.nfe_backward

    two = cost(2)
    for n in (3, 10, 60):
        assert cost(n) <= two + 7 * (n - 1)


def test_unused_outputs_cost_nothing():
    y0 = torch.ones(1, 2, dtype=F64)
    stats = []
    for n in (2, 50):
        sol = noderun.solve(Field(), y0, torch.linspace(0, 2, n), gradient="adjoint")
        sol.ys[-1].sum().backward()
        stats.append(sol.stats.nfe_backward)
    assert stats[0] == stats[1]


@pytest.mark.parametrize("gradient", list(noderun.GRADIENTS))
@pytest.mark.parametrize("span", [(0.0, 1.5), (0.5, -1.0)])
def test_growth_rate(gradient, span):
    """For dy = a y, dL/da of L = y(T) is T y(T)."""
    solver = "reversible_heun" if gradient == "reversible" else "dopri5"
    a = torch.tensor(0.7, dtype=F64, requires_grad=True)
    sol = noderun.solve(
        lambda t, y: a * y,
        torch.ones(1, dtype=F64),
        span,
        solver=solver,
        gradient=gradient,
        params=(a,),
        **({"rtol": 1e-9, "atol": 1e-9} if solver == "dopri5" else {"dt": 1e-3}),
    )
    end = sol.ys[-1, 0]
    end.backward()
    assert a.grad.item() == pytest.approx((span[1] - span[0]) * end.item(), rel=1e-6)


@pytest.mark.parametrize("norm", ["full", "seminorm"])
def test_both_norms_reach_the_gradient(norm, reference):
    options = {"rtol": 1e-8, "atol": 1e-8, "gradient_options": {"norm": norm}}
    assert relative(gradients("dopri5", "adjoint", TIMES, **options)[0], reference) < 1e-6


OSCILLATION = 40.0


class Forced(nn.Module):
    """y' = -y + p cos(40 t): at p = 0 the solution is smooth, the integrand of dL/dp is not."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.zeros((), dtype=F64))

    def forward(self, t, y):
        return -y + self.p * torch.cos(OSCILLATION * t)


def forced_error(solver, gradient, tolerance, **options):
    """The error of dy(1)/dp, and the solution."""
    field, w = Forced(), torch.tensor(OSCILLATION, dtype=F64)
    options |= {"rtol": tolerance, "atol": tolerance}
    sol = noderun.solve(
        field, torch.tensor([[0.3]], dtype=F64), [0.0, 1.0], solver=solver, gradient=gradient, **options
    )
    sol.ys[-1].sum().backward()
    exact = (w.cos() + w * w.sin() - math.exp(-1)) / (1 + w * w)
    return (field.p.grad - exact).abs().item(), sol


CONTROLLED = [p for p in pairs(lambda info: info.adaptive) if p[1] in CONTINUOUS]


@pytest.mark.parametrize(("solver", "gradient"), CONTROLLED)
def test_the_parameters_integral_is_part_of_the_error_control(solver, gradient):
    error, sol = forced_error(solver, gradient, 1e-5)
    outside, cheap = forced_error(solver, gradient, 1e-5, gradient_options={"norm": "seminorm"})
    assert error < 1e-4 if solver != "fehlberg2" else error < 0.05 * outside  # whose estimate is a 512th of the error
    assert cheap.stats.nfe_backward <= sol.stats.nfe_backward


def test_a_compiled_adjoint_controls_it_too(monkeypatch):
    """Its loop does: how that is lowered to code makes no difference to which errors it looks at."""
    monkeypatch.setattr("noderun.ode.solvers.compiled.graph.code_of", lambda module, inputs, options, table: module)
    (plain, eager), (fast, compiled) = (forced_error("dopri5", "adjoint", 1e-5, compile=c) for c in (False, True))
    assert fast == pytest.approx(plain, rel=1e-3)
    assert compiled.stats == eager.stats


def test_a_smooth_net_pays_nothing_for_it():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 8)).double()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, t, y):
            return self.net(y)

    y0 = torch.randn(16, 8, dtype=F64)
    counts = [
        gradients("dopri5", "adjoint", [0.0, 1.0], Net(), y0, rtol=1e-4, atol=1e-4, gradient_options={"norm": norm})[1]
        for norm in ("seminorm", "full")
    ]
    assert counts[0].stats.nfe_backward == counts[1].stats.nfe_backward


def test_a_tolerance_per_component_reaches_the_way_back(reference):
    rtol = torch.full((1, 2), 1e-8, dtype=F64)
    for norm in ("full", "seminorm"):
        value, _ = gradients("dopri5", "adjoint", TIMES, rtol=rtol, atol=rtol, gradient_options={"norm": norm})
        assert relative(value, reference) < 1e-6


def test_interpolated_does_not_drift_if_the_state_is_unstable_backwards():
    """A component that contracts blows up backwards in time, and what depends on it; the stored one does not."""

    class Contracting(nn.Module):
        def __init__(self):
            super().__init__()
            self.rate = nn.Parameter(torch.tensor(1.0, dtype=F64))

        def forward(self, t, y):
            fast, slow = y.unbind(-1)
            return torch.stack([-8 * (fast - torch.sin(3 * t)), self.rate * torch.cos(4 * fast) + 0 * slow], -1)

    y0 = torch.ones(1, 2, dtype=F64)
    span = torch.tensor([0.0, 1.5], dtype=F64)
    exact, _ = gradients("dopri5", "backprop", span, Contracting(), y0, rtol=1e-11, atol=1e-11)
    options = {"rtol": 1e-4, "atol": 1e-4}
    along, _ = gradients("dopri5", "interpolated", span, Contracting(), y0, **options)
    back, _ = gradients("dopri5", "adjoint", span, Contracting(), y0, **options)
    assert relative(along, exact) < 1e-3
    assert relative(back, exact) > 1e-2


@pytest.mark.parametrize("solver", ["dopri5", "scipy"])
def test_parameters_without_effect_ask_for_no_tolerance(solver):
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.ones(2, dtype=F64))

        def forward(self, t, y):
            return -y

    y0 = torch.ones(1, dtype=F64, requires_grad=True)
    field = Idle()
    sol = noderun.solve(field, y0, [0.0, 1.0], solver=solver, gradient="adjoint", rtol=1e-6, atol=0.0)
    sol.ys[-1].sum().backward()
    assert torch.equal(field.unused.grad, torch.zeros_like(field.unused))
    assert y0.grad.item() == pytest.approx(math.exp(-1), rel=1e-5)
