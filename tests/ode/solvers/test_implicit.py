"""Implicit methods: tableaus, stability, Jacobians of batches, gradients through Newton's iteration, failures."""

import math

import pytest
import torch
from problems import NONAUTONOMOUS, van_der_pol
from torch import nn

import noderun
from noderun.ode.solvers import METHODS, NewtonDivergence
from noderun.ode.solvers.collocation import CollocationMethod
from noderun.ode.solvers.dirk import DiagonallyImplicit
from noderun.ode.solvers.field import Autocast, VectorField
from noderun.ode.solvers.implicit import ImplicitMethod
from noderun.ode.solvers.jacobian import Blocks, Jacobian
from noderun.ode.solvers.stage_systems import Systems
from noderun.ode.solvers.state import Layout
from noderun.ode.solvers.tableau import ButcherTableau

IMPLICIT = [name for name, method in METHODS.items() if isinstance(method, ImplicitMethod) and method.info.fixed_step]
VARIABLE = ["bdf", "auto"]
UNDAMPED = {"trapezoid", "implicit_midpoint", "gauss4", "gauss6"}  # |R(inf)| = 1
S6, S15 = 6**0.5, 15**0.5

PUBLISHED = {  # Hairer, Wanner, Solving ODEs II, tables IV.5.1, 5.2, 5.5 and 5.6
    "gauss4": [[1 / 4, 1 / 4 - 3**0.5 / 6], [1 / 4 + 3**0.5 / 6, 1 / 4]],
    "gauss6": [
        [5 / 36, 2 / 9 - S15 / 15, 5 / 36 - S15 / 30],
        [5 / 36 + S15 / 24, 2 / 9, 5 / 36 - S15 / 24],
        [5 / 36 + S15 / 30, 2 / 9 + S15 / 15, 5 / 36],
    ],
    "radau3": [[5 / 12, -1 / 12], [3 / 4, 1 / 4]],
    "radau5": [
        [(88 - 7 * S6) / 360, (296 - 169 * S6) / 1800, (-2 + 3 * S6) / 225],
        [(296 + 169 * S6) / 1800, (88 + 7 * S6) / 360, (-2 - 3 * S6) / 225],
        [(16 - S6) / 36, (16 + S6) / 36, 1 / 9],
    ],
}


def solve(f, y0, ts, **kwargs):
    return noderun.solve(f, y0, torch.as_tensor(ts, dtype=torch.float64), **kwargs)


@pytest.mark.parametrize("name", PUBLISHED)
def test_collocation_tableau_is_the_published_one(name):
    method = METHODS[name]
    assert isinstance(method, CollocationMethod)
    torch.testing.assert_close(torch.tensor(method.tableau.a), torch.tensor(PUBLISHED[name]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", [n for n in IMPLICIT if isinstance(METHODS[n], DiagonallyImplicit)])
def test_rows_of_diagonally_implicit_tableaus(name):
    tableau = METHODS[name].tableau
    for row, c in zip((*tableau.a, tableau.b), (*tableau.c, 1.0), strict=True):
        assert sum(row) == pytest.approx(c, abs=1e-14)
    assert len({row[-1] for row in tableau.a if row}) == 1
    assert tableau.error is None or sum(tableau.error) == pytest.approx(0, abs=1e-14)
    assert [sum(row) for row in tableau.dense] == pytest.approx(list(tableau.b), abs=1e-14)


@pytest.mark.parametrize(
    ("a", "c"),
    [(((), (1.0,)), (0.0, 1.0)), (((0.5,), (0.25, 0.75)), (0.5, 1.0)), (((0.5, 0.0), (0.5, 0.5)), (0.5, 1.0))],
)
def test_a_tableau_that_is_not_diagonally_implicit_is_refused(a, c):
    with pytest.raises(ValueError, match="solver 'mine' needs a lower triangular tableau with one number on its diag"):
        DiagonallyImplicit("mine", ButcherTableau(order=1, a=a, b=(0.5, 0.5), c=c))


def test_an_implicit_tableau_needs_dense_output():
    with pytest.raises(ValueError, match="its tableau needs dense, without stages of its own"):
        DiagonallyImplicit("mine", ButcherTableau(order=1, a=((1.0,),), b=(1.0,), c=(1.0,)))


@pytest.mark.parametrize("name", IMPLICIT)
def test_stiff_decay_is_bounded_and_damped_where_l_stable(name):
    y0 = torch.ones(1, dtype=torch.float64)
    with torch.no_grad():
        ys = solve(lambda t, y: -1e6 * y, y0, [0.0, 1.0, 3.0], solver=name, dt=0.5).ys.abs()
    assert bool((ys <= 1 + 1e-9).all())
    assert bool((ys[1:] < 1e-3).all()) != (name in UNDAMPED)


@pytest.mark.parametrize("name", [*[n for n in IMPLICIT if noderun.SOLVERS[n].adaptive], *VARIABLE])
def test_error_is_proportional_to_the_tolerance(name):
    problem, errors = NONAUTONOMOUS, []
    ts = torch.linspace(problem.t0, problem.t1, 9, dtype=torch.float64)
    exact = torch.stack([problem.at(t) for t in ts.tolist()])
    tolerances = [1e-3, 1e-4, 1e-5]
    for tolerance in tolerances:
        with torch.no_grad():
            ys = solve(problem.f, problem.y0, ts, solver=name, rtol=tolerance, atol=tolerance).ys
        errors.append((ys - exact).abs().max().item())
    assert all(error < 100 * tolerance for error, tolerance in zip(errors, tolerances, strict=True)), errors
    assert math.log10(errors[0] / errors[-1]) > 2 * 0.6, errors


@pytest.mark.parametrize("name", ["radau5", "kvaerno5", "rodas4", "bdf"])
def test_backward_time(name):
    problem = NONAUTONOMOUS
    with torch.no_grad():
        ys = solve(
            problem.f, problem.at(problem.t1), [problem.t1, 1.3, problem.t0], solver=name, rtol=1e-8, atol=1e-8
        ).ys
    assert (ys[1] - problem.at(1.3)).abs().max() < 1e-5
    assert (ys[2] - problem.y0).abs().max() < 1e-5


def oscillators(b=8):
    return torch.stack([torch.linspace(0.5, 2, b), torch.linspace(-1, 1, b)], dim=1).double()


@pytest.mark.parametrize("name", ["radau5", "kvaerno5", "rodas4", "bdf"])
def test_a_batch_costs_what_one_sample_costs_and_is_the_same(name):
    y0, ts = oscillators(), [0.0, 0.7, 2.0]
    kwargs = {"solver": name, "rtol": 1e-5, "atol": 1e-7}
    with torch.no_grad():
        batch = solve(lambda t, y: van_der_pol(y, 5.0), y0, ts, **kwargs)
        dense = solve(lambda t, y: van_der_pol(y.reshape(8, 2), 5.0).reshape(1, 16), y0.reshape(1, 16), ts, **kwargs)
        alone = [solve(lambda t, y: van_der_pol(y, 5.0), y, ts, **kwargs).stats for y in y0[::3]]
    torch.testing.assert_close(batch.ys.reshape(3, 1, 16), dense.ys, rtol=0, atol=1e-9)
    assert batch.stats.nfe_forward <= 3 * max(stats.nfe_forward for stats in alone)
    assert batch.stats.jacobians <= 3 * max(stats.jacobians for stats in alone)


def test_the_jacobian_of_a_batch_is_small_blocks():
    field = VectorField(lambda t, y: van_der_pol(y, 5.0), Layout.of(oscillators()), (), Autocast("cpu"))
    flat = oscillators().reshape(-1)
    evaluator = Jacobian(field.layout, flat)
    blocks = evaluator.at(field, torch.tensor(0.0), flat)
    dense = torch.autograd.functional.jacobian(lambda y: van_der_pol(y.view(8, 2), 5.0).reshape(-1), flat)
    assert blocks.shape == (8, 2, 2)
    torch.testing.assert_close(torch.block_diag(*blocks), dense)
    assert field.jacobians == 1 and field.nfe == 0


def mixing(t, y):
    """Samples couple through the mean of their squares."""
    return -y - 20 * (y * y).mean(0) * y


@pytest.mark.parametrize("name", ["radau5", "kvaerno5", "rodas4", "bdf"])
def test_a_coupled_batch_is_solved_as_one_system(name):
    y0 = torch.linspace(0.1, 1, 12, dtype=torch.float64).reshape(4, 3)
    with torch.no_grad():
        reference = solve(mixing, y0, [0.0, 1.0], solver="dopri5", rtol=1e-11, atol=1e-13).ys
        got = solve(mixing, y0, [0.0, 1.0], solver=name, rtol=1e-7, atol=1e-9).ys
    assert (got[-1] - reference[-1]).abs().max() < 1e-6


def test_coupling_is_found_by_one_random_product():
    y = torch.linspace(0.1, 1, 12, dtype=torch.float64).requires_grad_()
    evaluator = Jacobian(Layout.of(y.reshape(4, 3)), y)
    value = mixing(None, y.reshape(4, 3)).reshape(-1)
    dense = torch.autograd.functional.jacobian(lambda x: mixing(None, x.reshape(4, 3)).reshape(-1), y.detach())
    torch.testing.assert_close(evaluator.of(value, y)[0], dense)
    assert evaluator.blocks.count == 1


def test_blocks_of_a_nested_state_keep_samples_together():
    state = (torch.arange(6.0).reshape(3, 2), torch.arange(10.0, 13.0))
    layout = Layout.of(state)
    blocks = Blocks(layout)
    flat = layout.flatten(state)
    assert blocks.split(flat).tolist() == [[0, 1, 10], [2, 3, 11], [4, 5, 12]]
    assert torch.equal(blocks.join(blocks.split(flat)), flat)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 4, dtype=torch.float64), nn.Linear(4, 3, dtype=torch.float64)

    def forward(self, t, y):
        return self.b(torch.tanh(self.a(y))) * (1 + torch.sin(3 * t))


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", IMPLICIT)
def test_gradcheck(name, steps):
    weight = torch.linspace(-1, 1, 9, dtype=torch.float64).reshape(3, 3).requires_grad_()
    y0 = torch.tensor([[0.3, -0.5, 0.8], [0.1, 0.6, -0.4]], dtype=torch.float64, requires_grad=True)

    def end(y, w):
        f = lambda t, x, w: torch.tanh(x @ w) * (1 + t)  # noqa: E731
        ts = [0.0, 0.2 * steps - 0.07, 0.2 * steps]
        return solve(f, y, ts, solver=name, dt=0.2, gradient="backprop", args=(w,)).ys

    assert torch.autograd.gradcheck(end, (y0, weight), fast_mode=True)


def gradients(name, gradient, **kwargs):
    net, y0 = Net(), torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3).requires_grad_()
    sol = solve(net, y0, [0.0, 0.4, 1.0], solver=name, gradient=gradient, **kwargs)
    sol.ys.square().sum().backward()
    return torch.cat([x.grad.reshape(-1) for x in (y0, *net.parameters())])


@pytest.mark.parametrize("name", IMPLICIT)
def test_checkpointed_is_backprop_with_fixed_steps(name):
    exact = gradients(name, "backprop", dt=0.125)
    torch.testing.assert_close(gradients(name, "checkpointed", dt=0.125), exact, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["radau5", "kvaerno5", "rodas4", "trbdf2", *VARIABLE])
@pytest.mark.parametrize("gradient", ["backprop", "checkpointed", "adjoint"])
def test_adaptive_gradients_agree_with_an_explicit_solve(name, gradient):
    exact = gradients("dopri5", "backprop", rtol=1e-11, atol=1e-11)
    got = gradients(name, gradient, rtol=1e-7, atol=1e-7)
    assert (got - exact).abs().max() < 1e-4 * exact.abs().max()


def test_second_derivatives_are_exact_or_refused():
    y0 = torch.tensor([0.4], dtype=torch.float64, requires_grad=True)

    def end(name, y=y0):
        return solve(lambda t, y: -(y**3), y, [0.0, 0.3], solver=name, dt=0.1, gradient="backprop").ys[-1]

    assert torch.autograd.gradgradcheck(lambda y: end("rodas4", y), (y0,))
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.autograd.grad(end("gauss4"), y0, create_graph=True)


@pytest.mark.parametrize("name", ["radau5", "kvaerno5", "rodas4", "bdf", "auto", "gauss4"])
def test_single_precision(name):
    problem = NONAUTONOMOUS
    kwargs = {"dt": 0.1} if name == "gauss4" else {"rtol": 1e-4, "atol": 1e-4}
    with torch.no_grad():
        sol = solve(lambda t, y: problem.f(t, y).float(), problem.y0.float(), [problem.t0, 2.1], solver=name, **kwargs)
    assert sol.ys.dtype == torch.float32
    assert (sol.ys[-1] - problem.at(problem.t1)).abs().max() < 2e-3


def explosive(t, y):
    return y.pow(3) * 1e3 + 1


def test_newton_divergence_names_dt():
    y0 = torch.ones(2, dtype=torch.float64)
    with pytest.raises(NewtonDivergence, match="dt = 1 is too large"), torch.no_grad():
        solve(explosive, y0, [0.0, 2.0], solver="radau3", dt=1.0)


def test_newton_divergence_shrinks_adaptive_steps():
    problem = NONAUTONOMOUS
    with torch.no_grad():
        sol = solve(problem.f, problem.y0, [problem.t0, problem.t1], solver="radau5", rtol=1e-6, first_step=50.0)
    assert (sol.ys[-1] - problem.at(problem.t1)).abs().max() < 1e-4


def test_states_that_newton_cannot_take_are_refused():
    with pytest.raises(TypeError, match="torch.func"):
        torch.func.vmap(lambda y: solve(lambda t, y: -y, y, [0.0, 1.0], solver="gauss4", dt=0.5).ys)(torch.ones(2, 3))


def test_a_jacobian_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="explicit solver"), torch.no_grad():
        solve(lambda t, y: -y, torch.zeros(1, 20_000), [0.0, 1.0], solver="radau5")


@pytest.mark.parametrize("solver", ["gauss4", "gauss6", "radau3", "radau5"])
def test_decoupled_stages_solve_the_system_of_all_stages(solver):
    torch.manual_seed(0)
    a = 0.3 * torch.tensor(METHODS[solver].tableau.a, dtype=torch.float64)
    jacobian, residual = torch.randn(4, 3, 3, dtype=torch.float64), torch.randn(4, len(a), 3, dtype=torch.float64)
    systems = Systems(a)
    solved = systems.solve(systems.factored(jacobian), residual)
    whole = torch.eye(3 * len(a), dtype=torch.float64) - torch.stack([torch.kron(a, block) for block in jacobian])
    expected = torch.linalg.solve(whole, residual.flatten(1)).view_as(residual)
    torch.testing.assert_close(solved, expected, rtol=1e-12, atol=1e-12)
