"""Latent ODE: likelihoods beside closed forms, one solve for times of each series' own, a rate that is recovered."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from noderun.data import Batch, Series
from noderun.models.latent import Decoded, kl_to_standard, log_normal, log_poisson
from noderun.models.latent_ode import LatentODE
from noderun.models.neural_flow import NeuralFlow, ResNetFlow
from noderun.objectives import OBJECTIVES
from noderun.ode.configured import ConfiguredSolve


class Linear(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[-0.1, 1.3], [-1.0, -0.1]]))

    def forward(self, t, y):
        return y @ self.matrix[: y.shape[1], : y.shape[1]].T


def make(encoder="rnn", **options):
    torch.manual_seed(0)
    dynamics = Linear if options.get("latent") == 2 else lambda shape: Tanh(shape)
    solve = ConfiguredSolve(rtol=1e-6, atol=1e-6, gradient="backprop")
    return LatentODE((5, 2), options.pop("outputs", 0), dynamics, solve, encoder=encoder, **options)


class Tanh(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.net = nn.Linear(shape[0], shape[0])

    def forward(self, t, y):
        return torch.tanh(self.net(y))


def series():
    generator = torch.Generator().manual_seed(1)
    times = torch.rand(3, 5, generator=generator).sort(1).values
    mask = torch.rand(3, 5, 2, generator=generator) < 0.7
    mask[:, 0] = True
    return torch.randn(3, 5, 2, generator=generator), times, mask


def test_each_series_is_decoded_at_its_own_times_on_both_sides_of_0():
    model = make(latent=2)
    z0, times = torch.randn(4, 3, 2), torch.tensor([[-1.0, 0.0, 2.0], [0.5, 0.5, 1.0], [0.0, 0.0, 3.0]])
    flow = torch.linalg.matrix_exp(model.block.dynamics.matrix * times[..., None, None])  # [B, S, 2, 2]
    exact = torch.einsum("bsij,kbj->kbsi", flow, z0)
    assert torch.allclose(model.decode(z0, times).latent, exact, atol=1e-4)


def test_a_neural_flow_starts_at_z0_is_invertible_at_every_time_and_sees_each_series_at_its_own():
    torch.manual_seed(0)
    flow, z0 = ResNetFlow(3, 16, 2).double().eval(), torch.randn(8, 3, dtype=torch.float64)
    for net in flow.nets:  # as large as training may make them
        net.of_state.parametrizations.weight.original.data *= 100
        net.last.parametrizations.weight.original.data *= 100
    assert torch.equal(flow(torch.zeros(1).double(), z0), z0)
    for t in (torch.tensor([time], dtype=torch.float64) for time in (-1.0, 0.3)):
        z = y = flow(t, z0)
        for net, rate in zip(reversed(flow.nets), flow.rates.flip(0), strict=True):
            for _ in range(150):  # Banach's fixed point z = y - tanh(a t) g(t, z)
                z = y - (rate * t).tanh() * net(t, z)
            y = z
        torch.testing.assert_close(z, z0)
    model = NeuralFlow((5, 2), 0, latent=3).eval()
    z0, times = torch.randn(4, 2, 3), torch.tensor([[-1.0, 0.0, 2.0], [0.5, 0.5, 1.0]])
    found = model.decode(z0, times).latent
    torch.testing.assert_close(found[:, 1, 2], model.flow(times[1, 2:], z0[:, 1]))
    torch.testing.assert_close(found[:, 0, 1], z0[:, 0])


@pytest.mark.parametrize("encoder", ["rnn", "ode_rnn"])
def test_encoders_see_neither_padding_nor_what_was_not_observed(encoder):
    model, (inputs, times, mask) = make(encoder), series()
    mean, std = model.encode(inputs, times, mask)
    hidden = torch.where(mask, inputs, torch.nan)
    longer = [torch.cat([part, part[:, -1:]], dim=1) for part in (hidden, times, mask)]
    longer[2][:, -1] = False
    for found, expected in zip(model.encode(*longer), (mean, std), strict=True):
        torch.testing.assert_close(found, expected)
    moved = model.encode(inputs, times + 0.5, mask)[0]
    assert not torch.allclose(moved, mean)


def test_the_likelihood_and_the_divergence_are_torchs():
    x, mean, mask = torch.randn(3, 5, 2), torch.randn(4, 3, 5, 2), torch.rand(3, 5, 2) < 0.5
    expected = (Normal(mean, 0.3).log_prob(x) * mask).sum((-2, -1))
    torch.testing.assert_close(log_normal(torch.where(mask, x, torch.nan), mean, 0.3, mask), expected)
    mean, std = torch.randn(3, 2), torch.rand(3, 2) + 0.1
    torch.testing.assert_close(kl_to_standard(mean, std), kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(1))


def test_the_elbo_is_below_the_evidence_of_a_linear_model():
    """x = z(0) + noise for all times: the evidence is a normal density, and the best q makes the bound tight."""
    x, noise = torch.tensor([[[0.3], [0.7], [0.2]]]), 0.5
    covariance = torch.ones(3, 3) + noise**2 * torch.eye(3)
    evidence = torch.distributions.MultivariateNormal(torch.zeros(3), covariance).log_prob(x[0, :, 0])
    precision = 1 + 3 / noise**2
    mean, std = x.sum() / noise**2 / precision, precision**-0.5
    z0 = (mean + std * torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0)))[..., None]
    log_p = log_normal(x, z0.unsqueeze(2).expand(-1, 1, 3, 1), noise, torch.ones(1, 3, 1, dtype=torch.bool))
    elbo = log_p.mean() - kl_to_standard(mean.view(1, 1), torch.tensor([[std]]))
    assert abs(float(elbo - evidence)) < 0.01


def test_the_weight_of_the_divergence_grows_over_the_warm_up():
    model, objective, (inputs, times, mask) = (
        make(kl_warmup=10, noise=1.0),
        OBJECTIVES["elbo"]().for_target(Series(2)),
        series(),
    )
    batch = Batch(inputs, inputs, times, mask, target_times=times, target_mask=mask, index=torch.arange(3))
    torch.manual_seed(0)
    objective.step = 0
    start = objective(model, batch)
    torch.manual_seed(0)
    objective.step = 5
    half = objective(model, batch)
    assert (half["loss"] - start["loss"]).item() == pytest.approx(0.5 * start["kl"].mean().item(), rel=1e-4)
    model.eval()
    with torch.no_grad():
        one, two = objective(model, batch), objective(model, batch.rows(slice(1, 3)))
    for name in ("elbo", "nll", "mse"):  # the draws of a test are those of each example, whatever batch it is in
        torch.testing.assert_close(one[name][1:], two[name], rtol=1e-4, atol=1e-4)


def test_a_simulated_rate_is_recovered_within_its_standard_error():
    """Events of a Poisson process with rate 2 e^t on [0, 1], thinned: log rate = a + b t through z = (1, t)."""
    generator, count = torch.Generator().manual_seed(0), 500
    drawn = torch.rand(count, 30, generator=generator).sort(1).values
    kept = torch.rand(count, 30, generator=generator) < (2 * drawn.exp()) / 30
    # a Binomial(30, 1/30 of the integral) is close to Poisson; its rate is the same
    log_rate = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.LBFGS([log_rate], max_iter=50)
    grid = (torch.arange(1000) + 0.5) / 1000

    def loss():
        optimizer.zero_grad()
        rate_at = (log_rate[0] + log_rate[1] * drawn)[None, ..., None]
        expected = (log_rate[0] + log_rate[1] * grid).exp().mean().expand(1, count, 1)
        decoded = Decoded(rate_at, rate_at, 1, rate_at, expected)
        value = -log_poisson(decoded, kept.unsqueeze(-1)).mean()
        value.backward()
        return value

    optimizer.step(loss)
    t = torch.stack([torch.ones(1000), grid], dim=1)
    information = count * (t.T * (2 * grid.exp())) @ t / 1000  # Fisher's, of a and b
    errors = information.inverse().diagonal().sqrt()
    assert ((log_rate.detach() - torch.tensor([math.log(2), 1.0])).abs() < 3 * errors).all()


def test_the_expected_count_is_the_integral_of_the_rate_along_the_solve():
    model = make(latent=2, poisson=True)
    times = torch.linspace(0, 2, 401).expand(3, -1)
    decoded = model.decode(torch.randn(2, 3, 2), times)
    integral = torch.trapezoid(decoded.log_rate.exp(), times[None, :, :, None], dim=2)
    torch.testing.assert_close(decoded.expected, integral, rtol=1e-4, atol=1e-4)


def test_without_labels_there_is_no_answer():
    with pytest.raises(ValueError, match="made for series alone"):
        make()(*series())
    assert make(outputs=3)(*series()).shape == (3, 3)
