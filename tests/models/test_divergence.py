"""Traces against the Jacobian that autograd makes, and Hutchinson's estimate against its mean."""

import math

import pytest
import torch

from noderun.dynamics import DYNAMICS
from noderun.dynamics.activations import ACTIVATIONS
from noderun.dynamics.planar import PlanarUnits
from noderun.dynamics.time_mlp import LAYERS
from noderun.models.continuous import NOISE
from noderun.models.divergence import exact_divergence, hutchinson

IMAGE = (2, 4, 4)
SHAPES = {name: IMAGE for name in DYNAMICS} | {"mlp": (3,), "time_mlp": (3,), "transformer": (4, 3)}
SHAPES |= {"conv1d": (8,)}
SHAPES |= {"lotka_volterra": (2,), "pendulum": (2,), "lorenz": (3,)}
# the state of a ball, height and speed, is not of the shape that it is made for
FIELDS = {name: lambda name=name: DYNAMICS[name](SHAPES[name]) for name in DYNAMICS if name != "bouncing_ball"}
FIELDS |= {f"time_mlp {layer}": lambda x=layer: DYNAMICS["time_mlp"]((3,), layer=x) for layer in LAYERS}
FIELDS |= {f"time_mlp {name}": lambda x=name: DYNAMICS["time_mlp"]((3,), activation=x) for name in ACTIVATIONS}
FIELDS |= {f"time_mlp {n}": lambda n=n: DYNAMICS["time_mlp"]((3,), layers=n) for n in (1, 2)}
FIELDS |= {"planar": lambda: PlanarUnits(3, units=5, hidden=8)}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("own_times", [False, True], ids=["one time", "own times"])
@pytest.mark.parametrize("name", FIELDS)
def test_the_exact_trace_is_that_of_autograds_jacobian(name, own_times):
    f = FIELDS[name]().double()
    y = torch.randn(4, *SHAPES.get(name, (3,)), dtype=torch.float64)
    t = (
        torch.rand(4, *[1] * (y.dim() - 1), dtype=torch.float64)
        if own_times
        else torch.tensor(0.3, dtype=torch.float64)
    )
    dy, trace = exact_divergence(f, t, y)
    jacobians = torch.autograd.functional.jacobian(lambda y: f(t, y).sum(0), y)
    expected = jacobians.movedim(y.dim() - 1, 0).flatten(2).flatten(1, 1).reshape(4, y[0].numel(), -1)
    torch.testing.assert_close(trace, expected.diagonal(dim1=1, dim2=2).sum(1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dy, f(t, y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["time_mlp concat_squash", "time_mlp silu", "planar"])
def test_the_gradient_of_a_trace_in_closed_form_is_that_of_the_products(name):
    f = FIELDS[name]().double()
    y, t = torch.randn(4, 3, dtype=torch.float64, requires_grad=True), torch.tensor(0.3, dtype=torch.float64)

    def gradients(field):
        dy, trace = exact_divergence(field, t, y)
        loss = (dy.square().sum(1) * trace).sum()
        return torch.autograd.grad(loss, [y, *f.parameters()], allow_unused=True)

    for own, other in zip(gradients(f), gradients(lambda t, y: f(t, y)), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("noise", NOISE)
def test_hutchinsons_estimate_is_unbiased(noise):
    f, draws = DYNAMICS["mlp"]((6,)).double(), 4096
    y, t = torch.randn(1, 6, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    vectors = NOISE[noise](0, torch.arange(draws), (6,), torch.float64)
    _, estimates = hutchinson(f, t, y.expand(draws, 6), vectors)
    _, trace = exact_divergence(f, t, y)
    assert abs(estimates.mean() - trace) < 3 * estimates.std() / math.sqrt(draws)
    assert estimates.std() > 0
