"""Series of stochastic equations: moments in closed form, and the Lorenz system beside scipy's without its noise."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp

from noderun.data.stochastic import gbm, ou, stochastic_lorenz, with_additive_noise

COUNT, END = 20_000, 1.0
# data set -> the mean and the variance of y(t), or of log y(t)
MOMENTS = {
    ou: lambda t: (math.exp(-t), 0.04 * math.exp(-2 * t) + 0.25 * (1 - math.exp(-2 * t)) / 2),
    gbm: lambda t: ((0.5 - 0.125) * t, 0.01 + 0.25 * t),
}


@pytest.mark.parametrize("read", MOMENTS, ids=lambda read: read.__name__)
def test_moments_are_those_of_the_closed_form(read):
    series = read(None, examples=COUNT, points=5, span=END, noise=0.0, standardize=False).train
    assert series.times[0].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    values = series.targets[..., 0].double()
    values = values.log() if read is gbm else values
    for t, at in zip(series.times[0].tolist(), values.unbind(1), strict=True):
        mean, variance = MOMENTS[read](t)
        assert abs(at.mean().item() - mean) < 3 * (variance / COUNT) ** 0.5
        assert abs(at.var().item() / variance - 1) < 3 * (2 / COUNT) ** 0.5


def test_the_noise_of_the_simulated_system_has_its_strength():
    """dy = -y dt + 0.5 dW, whose variance is known; Heun's error at this step is 1e-5."""
    generator, times = torch.Generator().manual_seed(0), torch.linspace(0, 2, 5)
    paths = with_additive_noise(torch.neg, 0.5, torch.zeros(COUNT, 1), times, generator)
    expected = 0.125 * (1 - torch.exp(-2 * times[1:]))
    assert (paths[:, 1:, 0].var(0) / expected - 1).abs().max() < 4 * (2 / COUNT) ** 0.5


def test_the_lorenz_system_without_noise_is_scipys():
    dataset = stochastic_lorenz(None, examples=3, sigma=0.0, noise=0.0, standardize=False)
    states, times = dataset.train.targets.double(), dataset.train.times[0].double()
    field = dataset.target.system.field

    def slope(t, y):
        return field(torch.as_tensor(y)).numpy()

    for path in states:
        found = solve_ivp(slope, (0.0, 1.0), path[0].numpy(), "DOP853", times.numpy(), rtol=1e-9, atol=1e-9)
        assert (torch.as_tensor(found.y.T) - path).abs().max() < 5e-3  # beside noise of 0.02 from one time to the next


def test_the_diffusion_is_known_and_the_noise_of_observations_is_not_in_the_test():
    dataset = gbm(None, examples=500, noise=0.1, standardize=False)
    y = torch.rand(4, 1)
    assert torch.equal(dataset.target.system.diffusion(y), 0.5 * y)
    assert (dataset.test.inputs - dataset.test.targets).std().item() == pytest.approx(0.1, rel=0.1)
    assert (
        stochastic_lorenz(None, examples=5).target.system.diffusion(torch.ones(1, 3)).tolist()[0]
        == [0.15000000596046448] * 3
    )
