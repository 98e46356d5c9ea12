"""The variational autoencoder: its bound against closed forms, its posterior flows against autograd."""

import math

import pytest
import torch

from noderun.models.posterior import AmortizedFFJORD, AmortizedPlanar, LowRankMLP
from noderun.models.vae import VAE
from noderun.ode.configured import ConfiguredSolve

TIGHT = ConfiguredSolve(rtol=1e-9, atol=1e-9, gradient="backprop")


class LinearGaussian(VAE):
    """x = W z + e with e ~ N(0, I) and orthogonal columns of W: then q(z | x) = N(W'x / (1 + s^2), 1 / (1 + s^2))."""

    def __init__(self, w):
        super().__init__((w.shape[0],), w.shape[0], TIGHT, latent=w.shape[1])
        self.w = w

    def log_likelihood(self, z, x):
        return -0.5 * ((x - z @ self.w.T).square().sum(1) + x.shape[1] * math.log(2 * math.pi))


def test_the_bound_is_the_likelihood_if_the_posterior_is_exact():
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([0.5, 2.0], dtype=torch.float64)
    w = torch.linalg.qr(torch.randn(5, 2, dtype=torch.float64, generator=generator))[0] * scales
    model = LinearGaussian(w).double()
    precision = 1 + scales.square()
    model.encoder = torch.nn.Identity()
    model.normal = torch.nn.Linear(5, 4).double()
    with torch.no_grad():
        model.normal.weight.copy_(torch.cat([w.T / precision[:, None], torch.zeros(2, 5)]))
        model.normal.bias.copy_(torch.cat([torch.zeros(2), -precision.log()]))
    x = torch.randn(6, 5, dtype=torch.float64, generator=generator)
    log_likelihood, kl = model(x)
    exact = torch.distributions.MultivariateNormal(torch.zeros(5, dtype=torch.float64), w @ w.T + torch.eye(5))
    torch.testing.assert_close(log_likelihood - kl, exact.log_prob(x), rtol=0, atol=1e-10)  # whatever z was drawn


@pytest.mark.parametrize("levels", [2, 5])
def test_the_likelihood_is_a_distribution_over_levels(levels):
    """Over all images of two pixels p(x | z) sums to 1."""
    torch.manual_seed(0)
    model = VAE((1, 1, 2), 2 if levels == 2 else 2 * levels, TIGHT, latent=3).double()
    values = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    images = torch.cartesian_prod(values, values).view(-1, 1, 1, 2)
    z = torch.randn(1, 3, dtype=torch.float64).expand(len(images), 3)
    assert model.log_likelihood(z, images).exp().sum().item() == pytest.approx(1)
    x = model.float().sample(50)
    assert x.shape == (50, 1, 1, 2) and set((x * (levels - 1)).unique().tolist()) <= set(range(levels))


def test_the_planar_posterior_has_its_jacobians_determinant():
    torch.manual_seed(0)
    flow = AmortizedPlanar(4, 3, layers=5).double()
    z, h = torch.randn(6, 3, dtype=torch.float64), 3 * torch.randn(6, 4, dtype=torch.float64)
    _, log_det = flow(z, h)
    everything = torch.autograd.functional.jacobian(lambda y: flow(y, h)[0], z)
    own = torch.stack([everything[i, :, i] for i in range(6)])
    torch.testing.assert_close(log_det, torch.linalg.slogdet(own)[1], rtol=0, atol=1e-12)


def test_the_ffjord_posterior_has_its_jacobians_determinant_in_the_mean():
    torch.manual_seed(0)
    flow = AmortizedFFJORD(4, 2, (8,), 2, TIGHT).double().eval()
    z, h = torch.randn(1, 2, dtype=torch.float64), torch.randn(1, 4, dtype=torch.float64)
    draws = 2000
    _, log_dets = flow(z.expand(draws, 2), h.expand(draws, 4), torch.arange(draws))
    jacobian = torch.autograd.functional.jacobian(lambda y: flow(y[None], h)[0][0], z[0])
    error = log_dets.std() / draws**0.5
    assert abs(log_dets.mean() - torch.linalg.slogdet(jacobian)[1]) < 4 * error + 1e-6


def test_the_weights_of_an_example_are_the_shared_ones_and_a_low_rank():
    net = LowRankMLP(3, (5,), rank=2).double()
    given = [torch.randn(1, size, dtype=torch.float64) for size in net.sizes]
    y, t = torch.randn(1, 3, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    h = y[0]
    for i, layer in enumerate(net.layers):
        u, v, b = (part[0] for part in given[3 * i : 3 * i + 3])
        w = layer.weight[:, 1:] + (v.view(-1, 2) @ u.view(2, -1)).T
        h = w @ (h.tanh() if i else h) + layer.weight[:, 0] * t + layer.bias + b
    torch.testing.assert_close(net(t, y, given)[0], h)


@pytest.mark.parametrize("gradient", ["backprop", "checkpointed", "adjoint"])
def test_the_encoder_learns_through_the_solve(gradient):
    """The gradient with respect to the features, through weights that are arguments of the field."""
    torch.manual_seed(0)
    solve = ConfiguredSolve(rtol=1e-8, atol=1e-8, gradient=gradient)
    flow = AmortizedFFJORD(3, 2, (6,), 1, solve).double().eval()
    z, h = torch.randn(2, 2, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def value(h):
        moved, log_det = flow(z, h)
        return (moved.square().sum(1) + log_det).sum()

    (found,) = torch.autograd.grad(value(h), h)
    step = 1e-5 * torch.randn_like(h)
    with torch.no_grad():
        slope = (value(h + step) - value(h - step)) / 2
    assert (found * step).sum().item() == pytest.approx(slope.item(), rel=1e-4)


def test_the_kl_divergence_warms_up_in_training_alone():
    model = VAE((4,), 4, TIGHT, latent=2, warmup=4)
    assert [model.kl_weight() for _ in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert model.eval().kl_weight() == 1 and model.steps == 5
