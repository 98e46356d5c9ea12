"""Latent SDE: KL and weights beside closed forms, marginals beside simulated paths, every gradient and solver."""

import itertools
import math

import pytest
import torch
from scipy.interpolate import CubicHermiteSpline
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from noderun.data import Batch, Series
from noderun.models.latent_equation import FORMS, MULTIPLICATIVE, LatentEquation
from noderun.models.latent_sde import LatentSDE
from noderun.models.steering import Marginals, hermite
from noderun.objectives import OBJECTIVES
from noderun.sde import GRADIENTS, SOLVERS, sdesolve
from noderun.sde.configured import ConfiguredSDESolve

DRAWS = 4000


def make(form="free", posterior="drift", solver="euler", gradient="backprop", dt=0.1, **options):
    torch.manual_seed(0)
    interpretation = SOLVERS[solver].interpretations[0]
    solve = ConfiguredSDESolve(solver=solver, dt=dt, gradient=gradient)
    return LatentSDE(
        (5, 2),
        0,
        solve,
        form=form,
        posterior=posterior,
        interpretation=interpretation,
        **({"hidden": 6, "width": 8, "noise": 0.5} | options),
    )


def series(count=3, length=5):
    generator = torch.Generator().manual_seed(1)
    times = torch.rand(count, length, generator=generator).sort(1).values
    mask = torch.rand(count, length, 2, generator=generator) < 0.7
    mask[:, 0] = True
    return torch.randn(count, length, 2, generator=generator), times, mask


def batch_of(inputs, times, mask):
    return Batch(inputs, inputs, times, mask, target_times=times, target_mask=mask, index=torch.arange(len(inputs)))


class Decay(nn.Module):
    """-rate z, in place of a drift net."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, z):
        return -self.rate * z


class Towards(nn.Module):
    """u of the posterior dz = -rate z dt + g dW against the prior dz = -prior z dt + g dW."""

    def __init__(self, rate, prior):
        super().__init__()
        self.rate, self.prior = rate, prior

    def forward(self, equation, t, z, p, s, *context):
        return (self.prior - self.rate) * z / s


def linear_equation(prior, rate, s):
    """Both processes of Ornstein and Uhlenbeck, in one dimension, with diffusion s."""
    equation = LatentEquation(1, "lsde", 4, 2, "tanh", Towards(rate, prior))
    equation.net = Decay(prior)
    with torch.no_grad():
        for parameter in equation.scale.parameters():
            parameter.zero_()
        equation.scale.layers[-1].bias.fill_(math.log(s / (1 - s)))  # the sigmoid of it is s
    return equation.double()


def chain(rate, s, start, h, count):
    """The joint normal of Euler's z_1, ..., z_count: z_k = (1 - rate h) z_(k-1) + s sqrt(h) N(0, 1)."""
    back = torch.eye(count, dtype=torch.float64) - (1 - rate * h) * torch.diag(
        torch.ones(count - 1, dtype=torch.float64), -1
    )
    forward = torch.linalg.inv(back)
    mean = forward[:, 0] * (1 - rate * h) * start
    return MultivariateNormal(mean, s**2 * h * forward @ forward.T)


def test_the_kl_of_the_path_is_that_of_two_linear_equations():
    prior, rate, s, start, count = 0.5, 2.0, 0.4, 0.8, 20
    equation, n = linear_equation(prior, rate, s), 20_000
    y0 = torch.tensor([[start, 0.0]], dtype=torch.float64).expand(n, 2)
    with torch.no_grad():
        sol = sdesolve(
            equation.drift,
            equation.diffusion,
            y0,
            [0.0, 1.0],
            dt=1 / count,
            noise="additive",
            args=(torch.zeros(n, 1),),
            steps=True,
        )
    kl = sol.ys[-1, :, 1]
    exact = kl_divergence(chain(rate, s, start, 1 / count, count), chain(prior, s, start, 1 / count, count))
    assert abs(kl.mean() - exact) < 3 * kl.std() / n**0.5
    # E z^2 of the process itself, so that the KL is an integral in closed form; Euler's step is 0.05
    variance = s**2 / (2 * rate)
    second = (start**2 - variance) * (1 - math.exp(-2 * rate)) / (2 * rate) + variance
    assert exact.item() == pytest.approx((rate - prior) ** 2 / (2 * s**2) * second, rel=0.1)
    # E_q p/q = 1, whatever q
    martingale = torch.zeros(n, dtype=torch.float64)
    for row, (a, b) in enumerate(itertools.pairwise(sol.ts.tolist())):
        z = sol.ys[row, :, :1]
        martingale += (equation.steered(sol.ts[row], z)[2] * sol.brownian(a, b)[:, :1])[:, 0]
    weight = (-kl - martingale).exp()
    assert abs(weight.mean() - 1) < 3 * weight.std() / n**0.5


@pytest.mark.parametrize("posterior", ["drift", "marginals"])
def test_a_test_weighs_paths_by_the_ratio_of_the_densities(posterior):
    """E_q p/q = 1 over many draws of one series, for the model's own log_ratio and that of z(0)."""
    model, (inputs, _, mask), times = make("free", posterior).eval(), series(), torch.linspace(0, 1, 5).expand(1, 5)
    with torch.no_grad():
        model.equation.scale.last_bias.fill_(1.0)
        for parameter in (*model.steering.parameters(), *model.equation.net.parameters()):
            parameter.mul_(0.15)  # weights of a posterior that is far from the prior have no variance to speak of
    posterior = model.infer(inputs[:1], times, mask[:1])
    epsilon = torch.randn(DRAWS, 1, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        decoded = model.paths(posterior, epsilon, times)
    for log_ratio in (decoded.log_ratio, model.start_log_ratio(posterior, epsilon)):
        weight = (-log_ratio).exp()
        assert weight.std() > 0.1 and abs(weight.mean() - 1) < 3 * weight.std() / DRAWS**0.5


def with_marginals(form="free", solver="euler", **options):
    """A model whose marginals are not about 0, and its posterior of one series."""
    model = make(form, "marginals", solver, dt=0.005, hidden=3, **options)
    with torch.no_grad():
        model.steering.net.layers[-1].bias.add_(torch.tensor([0.5] * 4 + [-0.5] * 4 + [0.0] * 8))
    inputs, times, mask = (part[:1] for part in series())
    return model, model.infer(inputs, times, mask), times[:, -1:] * torch.tensor([[0.3, 0.6, 0.95]])


@pytest.mark.parametrize(
    ("form", "solver", "training"),
    [("free", "euler", True), ("free", "heun", True), ("lsde", "euler", True), ("lsde", "euler", False)],
)
def test_paths_have_the_marginals_that_they_are_made_from(form, solver, training):
    """Of the simulated equation, in training, and of the steps of a test, if the diffusion does not depend on z."""
    model, posterior, asked = with_marginals(form, solver)
    epsilon = torch.randn(DRAWS, 1, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = model.train(training).paths(posterior, epsilon, asked).latent[:, 0]
        found = model.steering.at(asked, *posterior.context[:2])
    assert ((z.mean(0) - found.mean[0]) / found.std[0]).abs().max() < 4 / DRAWS**0.5 + 0.01
    assert (z.std(0) / found.std[0] - 1).abs().max() < 4 / (2 * DRAWS) ** 0.5 + 0.01


def test_the_bound_without_a_solve_is_that_of_simulated_paths():
    model, batch = make("free", "marginals", dt=0.005, samples=400), batch_of(*(part[:1] for part in series()))
    drawing, solving = (OBJECTIVES[name]().for_target(Series(2)) for name in ("sde_matching", "elbo"))
    with torch.no_grad():
        drawn, solved = [drawing(model, batch) for _ in range(40)], [solving(model, batch) for _ in range(4)]
    for name in ("elbo", "kl"):
        one, two = (torch.stack([found[name] for found in calls]) for calls in (drawn, solved))
        error = (one.var() / len(one) + two.var() / len(two)) ** 0.5
        assert abs(one.mean() - two.mean()) < 3 * error + 0.01 * two.mean().abs()


PAIRS = [
    (solver, gradient)
    for solver in SOLVERS
    for gradient in GRADIENTS
    if gradient != "reversible" or SOLVERS[solver].reversible
]


@pytest.mark.parametrize(("solver", "gradient"), PAIRS)
def test_every_solver_and_gradient_trains_a_step_with_backprops_gradient(solver, gradient):
    model, batch = make(solver=solver, gradient=gradient, dt=0.05).double(), batch_of(*series())
    batch = batch.map(lambda part: part.double() if part.is_floating_point() else part)
    exact = make(solver=solver, dt=0.05).double()
    for each in (model, exact):
        torch.manual_seed(3)
        OBJECTIVES["elbo"]().for_target(Series(2))(each, batch)["loss"].backward()
    assert model.block.stats.nfe_forward > 0
    own, truth = (torch.cat([p.grad.flatten() for p in each.parameters()]) for each in (model, exact))
    tolerance = {"adjoint": 0.1}.get(gradient, 1e-9)  # the adjoint's is the error of the steps
    assert (own - truth).norm() / truth.norm() < tolerance


@pytest.mark.parametrize("posterior", ["drift", "marginals"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_learns_and_gives_paths_of_the_prior(form, posterior):
    if posterior == "marginals" and form in MULTIPLICATIVE:
        pytest.skip("refused")
    model, batch = make(form, posterior), batch_of(*series())
    OBJECTIVES["elbo"]().for_target(Series(2))(model, batch)["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.prior_paths(7, torch.tensor([0.0, 0.5, 1.0]), 0).shape == (7, 3, 2)
    assert model.data_diffusion(torch.rand(3, 5, 1), torch.randn(2, 3, 5, 4)).shape == (2, 3, 5, 2)


@pytest.mark.parametrize("posterior", ["drift", "marginals"])
def test_gradients_are_finite_after_the_last_observation_where_no_diffusion_is_left(posterior):
    model = make(posterior=posterior)
    with torch.no_grad():
        model.equation.scale.last_bias.fill_(-1e3)  # the sigmoid is 0
    context = model.infer(*series()).context
    z = torch.ones(3, 5, requires_grad=True)
    drift = model.equation.drift(torch.tensor(5.0), z, *context)
    drift.sum().backward()
    assert z.grad.isfinite().all() and all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_the_context_sees_neither_padding_nor_what_was_not_observed():
    for posterior in ("drift", "marginals"):
        model, (inputs, times, mask) = make(posterior=posterior), series()
        hidden = torch.where(mask, inputs, torch.nan)
        longer = [torch.cat([part, part[:, -1:]], dim=1) for part in (hidden, times, mask)]
        longer[2][:, -1] = False
        one, two = model.infer(inputs, times, mask), model.infer(*longer)
        torch.testing.assert_close(two[:2], one[:2])
        for t in (0.0, 0.4, 0.9):
            u = [model.equation.steered(torch.tensor(t), torch.ones(3, 4), *found.context)[2] for found in (one, two)]
            torch.testing.assert_close(*u)
            assert (u[0] != 0).all(1).equal(t < times[:, -1])  # after the last observation the path is the prior's


def test_a_test_draws_for_each_series_what_it_draws_in_any_batch():
    model, (inputs, _, mask) = make().eval(), series()
    times = torch.linspace(0, 1, 5).expand(3, 5)
    batch, objective = batch_of(inputs, times, mask), OBJECTIVES["elbo"]().for_target(Series(2))
    with torch.no_grad():
        one, two = objective(model, batch), objective(model, batch.rows(slice(1, 3)))
        again = objective(model, batch)
    for name in ("elbo", "nll", "iw_nll", "mse"):
        torch.testing.assert_close(one[name][1:], two[name], rtol=1e-4, atol=1e-4)
        assert torch.equal(one[name], again[name])


def test_the_diffusion_of_the_data_is_the_rate_of_their_quadratic_variation():
    model, z0, dt = make("free", decoder=8).double(), torch.randn(1, 4, dtype=torch.float64), 1e-6
    with torch.no_grad():
        sol = sdesolve(
            model.equation.prior_drift, model.equation.prior_diffusion, z0.expand(50_000, 4), [0.0, dt], dt=dt
        )
        rate = model.decoder(sol.ys[1]).var(0) / dt
        found = model.data_diffusion(torch.zeros(1, 1), z0)[0]
    assert (rate.sqrt() / found - 1).abs().max() < 0.02


def test_marginals_know_their_slopes():
    steering = Marginals(2, 3, 8, 3, "softplus", "ito").double()
    contexts, knots = torch.randn(2, 4, 3, dtype=torch.float64), torch.tensor([[0.1, 0.4, 0.5, 0.9]] * 2).double()
    t = torch.tensor([[0.05, 0.2, 0.45], [0.3, 0.6, 0.8]], dtype=torch.float64)
    curves, step = steering.context(contexts, knots, knots[:, -1:])[:2], 1e-6
    found, ahead, behind = (steering.at(t + shift, *curves) for shift in (0.0, step, -step))
    torch.testing.assert_close(found.mean_slope, (ahead.mean - behind.mean) / (2 * step), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.std_slope, (ahead.std - behind.std) / (2 * step), rtol=1e-6, atol=1e-6)


def test_curves_of_marginals_are_scipys_hermite_splines():
    generator = torch.Generator().manual_seed(0)
    knots = torch.tensor([[0.0, 0.0, 0.3, 0.4, 1.0], [0.0, 0.2, 0.7, torch.inf, torch.inf]], dtype=torch.float64)
    curves = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64)
    t = torch.tensor([[0.0, 0.1, 0.3, 0.95, 1.0], [0.0, 0.1, 0.2, 0.65, 0.7]], dtype=torch.float64)
    value, slope = hermite(t, curves.requires_grad_(), knots)
    for row, known in enumerate((slice(1, 5), slice(0, 3))):
        x, m = curves[row, known].detach().numpy().reshape(-1, 2, 3).swapaxes(0, 1)
        exact = CubicHermiteSpline(knots[row, known].numpy(), x, m)
        torch.testing.assert_close(value[row].detach(), torch.tensor(exact(t[row].numpy())))
        inside = t[row] < knots[row, known][-1]
        torch.testing.assert_close(slope[row][inside].detach(), torch.tensor(exact(t[row][inside].numpy(), 1)))
    value.sum().backward()
    assert curves.grad.isfinite().all()
