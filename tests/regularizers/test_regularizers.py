"""Integrals along the solve against closed forms, and the same number and gradient by every gradient method."""

import pytest
import torch
from numpy.polynomial.legendre import leggauss
from torch import nn

import noderun
from noderun.config.schema import Regularizer, Solver
from noderun.config.validation import Incompatible
from noderun.data import Batch
from noderun.dynamics.activations import ACTIVATIONS, activation
from noderun.models import ODEBlock
from noderun.objectives import Objective
from noderun.ode.configured import ConfiguredSolve
from noderun.ode.gradients import refusal
from noderun.ode.solvers import METHODS
from noderun.regularizers import REGULARIZERS, Local, Quadrature
from noderun.training.setup import Setup
from noderun.training.solve_compatibility import check_regularizer

A = torch.tensor([[-0.5, 1.0, 0.0], [-1.0, -0.5, 0.3], [0.0, 0.2, -0.4]], dtype=torch.float64)
T = 0.8
tight = ConfiguredSolve(solver="dopri5", rtol=1e-9, atol=1e-9, gradient="backprop")


class Linear(nn.Module):
    """f = A y."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(A.clone())

    def forward(self, t, y):
        return y @ self.matrix.T


class Polynomial(nn.Module):
    """y = a + t^5 along every solution, so that y''' = 60 t^2."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(5.0, dtype=torch.float64))

    def forward(self, t, y):
        return self.rate * t**4 * torch.ones_like(y)


class Tanh(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 3)).double()

    def forward(self, t, y):
        return self.net(y) * (1 + t)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def penalty(field, regularizer, y0, solve=tight):
    block = ODEBlock(field, solve, t1=T)
    block.regularizer = regularizer
    y1 = block(y0)
    return y1, block.penalty


def quadratic_integral(matrix, y0):
    """Mean over batch and dimensions of int |matrix y|^2 dt for y' = A y, by fine Gauss-Legendre quadrature."""
    nodes, weights = (torch.from_numpy(v) for v in leggauss(20))
    times, weights = T * (nodes + 1) / 2, T * weights / 2
    flows = torch.stack([torch.linalg.matrix_exp(t * A) for t in times])
    values = torch.einsum("ij,tjk,bk->tbi", matrix, flows, y0).square().mean((1, 2))
    return (weights * values).sum()


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_derivatives_of_a_linear_flow_are_powers_of_its_matrix(order):
    y0 = torch.randn(4, 3, dtype=torch.float64)
    expected = quadratic_integral(torch.linalg.matrix_power(A, order), y0)
    same = [REGULARIZERS["taynode"](order=order), *([REGULARIZERS["kinetic"]()] if order == 1 else [])]
    for regularizer in same:
        torch.testing.assert_close(penalty(Linear(), regularizer, y0)[1], expected, rtol=1e-7, atol=0)


def test_total_derivatives_count_the_explicit_time():
    rk4 = ConfiguredSolve(solver="rk4", dt=T / 40, gradient="backprop")
    y0 = torch.zeros(2, 3, dtype=torch.float64)
    _, found = penalty(Polynomial(), REGULARIZERS["taynode"](order=3), y0, rk4)
    torch.testing.assert_close(found, torch.tensor(60**2 * T**5 / 5, dtype=torch.float64), rtol=1e-6, atol=0)


def test_jacobian_of_a_linear_flow_is_its_matrix_times_one_noise(monkeypatch):
    y0 = torch.randn(5, 3, dtype=torch.float64)
    noise = torch.randn(5, 3, dtype=torch.float64)
    monkeypatch.setattr(torch, "randn", lambda *shape, **options: noise)
    _, found = penalty(Linear(), REGULARIZERS["jacobian"](), y0)
    torch.testing.assert_close(found, T * (noise @ A).square().mean(), rtol=1e-7, atol=0)


def test_the_noise_estimates_the_frobenius_norm():
    y0 = torch.randn(4000, 3, dtype=torch.float64)
    _, found = penalty(Linear(), REGULARIZERS["jacobian"](), y0)
    assert abs(found / (T * A.square().sum() / 3) - 1) < 0.05


def test_the_error_of_heun_on_a_linear_flow_is_its_second_difference(monkeypatch):
    """err = h / 2 (k_2 - k_1) = h^2 / 2 A^2 y at the random time."""
    monkeypatch.setattr(torch, "rand", lambda shape: torch.tensor(0.5))
    y0, h = torch.randn(4, 3, dtype=torch.float64), T / 4
    solve = ConfiguredSolve(solver="adaptive_heun", dt=h, gradient="backprop")
    _, found = penalty(Linear(), REGULARIZERS["error"](), y0, solve)
    one = torch.eye(3, dtype=torch.float64) + h * A + h**2 / 2 * A @ A
    error = h**2 / 2 * y0 @ (A @ A @ one @ one).T  # after two of the four steps
    torch.testing.assert_close(found, T * error.square().mean().sqrt())


def test_stiffness_of_a_decay_is_its_rate():
    field = Linear()
    field.matrix.data = -7.0 * torch.eye(3, dtype=torch.float64)
    _, found = penalty(field, REGULARIZERS["stiffness"](), torch.randn(4, 3, dtype=torch.float64))
    torch.testing.assert_close(found.detach(), torch.tensor(7.0 * T, dtype=torch.float64), rtol=1e-6, atol=0)


def solver_for(gradient):
    """The first solver that this gradient can pass through; those that split a state (q, p) are not for our y."""
    able = [name for name in ("dopri5", *METHODS) if refusal(name, gradient) is None]
    return next(name for name in able if not METHODS[name].info.symplectic)


CASES = [
    (gradient, name)
    for gradient in noderun.GRADIENTS
    for name, kind in REGULARIZERS.items()
    if solver_for(gradient) == "dopri5" or not isinstance(kind(), Local)  # the others are refused, see below
]


@pytest.mark.parametrize(("gradient", "name"), CASES)
def test_value_and_gradient_are_the_same_by_every_gradient_method(name, gradient):
    field, y0 = Tanh(), torch.randn(2, 3, dtype=torch.float64)
    found = []
    for method in ("backprop", gradient):
        torch.manual_seed(1)  # the same noise
        start = y0.clone().requires_grad_()
        solve = ConfiguredSolve(solver=solver_for(gradient), rtol=1e-4, atol=1e-4, gradient=method)
        y1, integral = penalty(field, REGULARIZERS[name](), start, solve)
        gradients = torch.autograd.grad((y1**2).mean() + integral, [start, *field.parameters()])
        found.append([integral.detach(), *gradients])
    exact = noderun.GRADIENTS[gradient].exact
    torch.testing.assert_close(*found, rtol=1e-7 if exact else 2e-2, atol=1e-9 if exact else 2e-3)


def test_the_quadrature_takes_no_part_in_the_choice_of_steps():
    """Neither forward nor in the adjoint's solve back: a wild integrand leaves the steps as they are."""

    def wild(f, t, y):
        return f(t, y), 1e3 * torch.cos(300 * t) * y.new_ones(len(y))

    field, y0 = Tanh(), torch.randn(4, 3, dtype=torch.float64)
    solve = ConfiguredSolve(rtol=1e-5, atol=1e-5, gradient="adjoint")
    beside, alone = Quadrature(field, wild, y0), field
    with_it = solve(beside, (y0.requires_grad_(), y0.new_zeros(4)), [0.0, 1.0], norm=beside.norm)
    without = solve(alone, y0, [0.0, 1.0])
    with_it.ys[0][-1].sum().backward()
    without.ys[-1].sum().backward()
    assert with_it.stats.nfe_forward == without.stats.nfe_forward
    assert with_it.stats.nfe_backward == without.stats.nfe_backward


class Mean(Objective):
    def __call__(self, model, batch):
        return {"loss": model(batch.inputs).mean()}


def test_the_weighted_penalty_enters_the_loss_of_training_alone():
    block = ODEBlock(Linear(), tight)
    block.regularizer = REGULARIZERS["kinetic"]()
    setup = Setup(block, [block], Mean(), None, None, None, 1, torch.device("cpu"), penalty_weight=0.5)
    batch = Batch(torch.randn(4, 3, dtype=torch.float64))
    block.train()
    trained = setup.values(batch)
    block.eval()
    tested = setup.values(batch)
    assert set(tested) == {"loss"} and trained["regularizer"] > 0
    torch.testing.assert_close(trained["loss"], tested["loss"] + 0.5 * trained["regularizer"])


@pytest.mark.parametrize(
    ("regularizer", "solver", "works"),
    [("error", "dopri5", True), ("stiffness", "tsit5", True), ("error", "rk4", False), ("stiffness", "bosh3", False)],
)
def test_what_a_solver_does_not_tell_cannot_be_penalised(regularizer, solver, works):
    chosen = Solver(solver, options={})
    if works:
        check_regularizer(Regularizer(regularizer), chosen)
    else:
        match = f"regularizer={regularizer} looks at .* solver={solver} .* try solver=dopri5"
        with pytest.raises(Incompatible, match=match):
            check_regularizer(Regularizer(regularizer), chosen)


def test_a_field_made_anew_for_every_batch_is_not_compiled():
    check_regularizer(Regularizer("error"), Solver("dopri5", options={"compile": True}))
    with pytest.raises(Incompatible, match="regularizer=kinetic .* solver.compile=true"):
        check_regularizer(Regularizer("kinetic"), Solver("dopri5", options={"compile": True}))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_third_derivatives_pass_through_every_activation_with_and_without_gradients(name):
    """As the continuous adjoint calls f: forward without gradients."""
    net, y0 = nn.Sequential(nn.Linear(4, 4), activation(name), nn.Linear(4, 3)).double(), torch.ones(2, 3).double()
    f = lambda t, y: net(torch.cat([y, t.expand(2, 1)], 1))  # noqa: E731
    integrand, t = REGULARIZERS["taynode"](order=3)(y0), torch.tensor(0.1).double()
    with torch.no_grad():
        plain = integrand(f, t, y0)
    recorded = integrand(f, t, y0)
    assert not plain[1].requires_grad and recorded[1].requires_grad
    torch.testing.assert_close(plain[1], recorded[1].detach())
