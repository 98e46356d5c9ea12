"""Flow matching: paths, couplings, and what a field learned by regression carries."""

import math
from dataclasses import replace
from functools import partial

import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from noderun.dynamics import DYNAMICS
from noderun.models import FlowMatching
from noderun.models.optimal_transport import assignment, pairing, squared_distances, w2_squared
from noderun.models.probability_paths import Linear, VariancePreserving
from noderun.ode.configured import ConfiguredSolve

TIGHT = ConfiguredSolve(rtol=1e-9, atol=1e-9, gradient="backprop")


def clouds(n, dim=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator), 1 + 2 * torch.randn(n, dim, generator=generator)


@pytest.mark.parametrize("path", [Linear(), Linear(sigma=0.3), VariancePreserving()], ids=str)
def test_the_velocity_is_the_derivative_of_the_path(path):
    x0, x1 = (x.double() for x in clouds(64))
    t = torch.linspace(0.05, 0.95, 64, dtype=torch.float64)[:, None]
    h = 1e-6

    def at(t):
        torch.manual_seed(0)  # the same noise
        return path(x0, x1, t)

    slope = (at(t + h)[0] - at(t - h)[0]) / (2 * h)
    torch.testing.assert_close(at(t)[1], slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("path", [Linear(), VariancePreserving()], ids=str)
def test_a_path_leads_from_the_source_to_the_data(path):
    x0, x1 = clouds(64)
    start, end = (path(x0, x1, torch.full((64, 1), t))[0] for t in (0.0, path.last))
    torch.testing.assert_close(start, x0, rtol=0, atol=0.05)  # the diffusion keeps exp(-5) of the data
    torch.testing.assert_close(end, x1, rtol=0, atol=0.01)


def test_the_variance_preserving_path_keeps_the_variance():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)[:, None]
    one, zero = torch.ones_like(t), torch.zeros_like(t)
    path = VariancePreserving()
    torch.testing.assert_close(path(zero, one, t)[0] ** 2 + path(one, zero, t)[0] ** 2, one)


def test_the_score_is_that_of_the_marginal():
    """For data N(0, c^2) E[u | x] is the field b (x + score) / 2 of the probability-flow ODE (Song et al. 2021)."""
    path, c = VariancePreserving(), 0.7
    generator = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(2, 400_000, 1, generator=generator, dtype=torch.float64)
    t = torch.full_like(x0, 0.8)
    x, u = path(x0, c * x1, t)
    a2 = math.exp(-(0.1 * 0.2 + 0.5 * 19.9 * 0.04))
    score = -1 / (a2 * c**2 + 1 - a2)  # times x
    rate = 0.1 + 19.9 * 0.2
    slope = (x * u).mean() / x.square().mean()  # of E[u | x], which is linear in x
    assert slope.item() == pytest.approx(0.5 * rate * (1 + score), abs=0.01)


@pytest.mark.parametrize("n", [1, 17, 200])
def test_the_coupling_is_a_permutation_of_least_cost(n):
    x, y = clouds(n)
    cost = squared_distances(x, y)
    order = assignment(cost)
    assert sorted(order.tolist()) == list(range(n))  # each point once, unlike draws from the plan
    rows, columns = linear_sum_assignment(cost.numpy())
    assert cost[order, torch.arange(n)].sum().item() == pytest.approx(cost.numpy()[rows, columns].sum(), rel=1e-12)
    assert torch.equal(order, assignment(cost))


def test_w2_is_that_of_pot_and_of_normals_in_closed_form():
    x, y = clouds(300)
    assert w2_squared(x, y).item() == pytest.approx(ot.emd2([], [], squared_distances(x, y).numpy()), rel=1e-9)
    assert w2_squared(x, x + torch.tensor([3.0, 4.0])).item() == pytest.approx(25, rel=1e-5)


def linear_flow(matrix, **options):
    class Linearly(torch.nn.Module):
        def __init__(self, shape):
            super().__init__()
            self.a = torch.nn.Parameter(matrix)

        def forward(self, t, x):
            return x @ self.a.T

    return FlowMatching((2,), 2, make_dynamics=Linearly, solve=TIGHT, test_tolerance=None, **options).double().eval()


def test_the_density_of_linear_dynamics_is_a_normal():
    a = torch.tensor([[0.3, -0.8], [0.5, 0.1]], dtype=torch.float64)
    flow = linear_flow(a)
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    carried = torch.linalg.matrix_exp(a)
    exact = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=torch.float64), carried @ carried.T)
    torch.testing.assert_close(flow.log_prob(x), exact.log_prob(x), rtol=0, atol=1e-7)
    torch.testing.assert_close(flow.decode(x), x @ carried.T, rtol=0, atol=1e-7)


def test_the_energy_of_a_path_is_the_integral_of_its_squared_speed():
    """dx/dt = r x: |x(1) - x(0)|^2 = (e^r - 1)^2 |x(0)|^2, and the energy r (e^(2r) - 1) / 2 |x(0)|^2."""
    r = 0.7
    flow = linear_flow(r * torch.eye(2, dtype=torch.float64))
    x0 = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x1, energy = flow.transport(x0)
    torch.testing.assert_close(x1, math.exp(r) * x0, rtol=0, atol=1e-7)
    torch.testing.assert_close(energy, r * (math.exp(2 * r) - 1) / 2 * x0.square().sum(1), rtol=0, atol=1e-6)
    torch.testing.assert_close(flow.euler(x0), (1 + r) * x0)


@pytest.mark.parametrize("path", ["linear", "vp"])
def test_the_regression_learns_the_data(path):
    """A normal far from the source, in 500 steps: mean and width of the samples are the data's."""
    torch.manual_seed(0)
    make = partial(DYNAMICS["mlp"], layers=3, hidden=32, activation="silu")
    flow = FlowMatching((2,), 2, make_dynamics=make, solve=ConfiguredSolve(gradient="backprop"), path=path)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for step in range(500):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 500)
        loss = flow.regression(torch.tensor([1.5, -1.0]) + 0.5 * torch.randn(256, 2), None)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = flow.eval().sample(2000)
    torch.testing.assert_close(x.mean(0), torch.tensor([1.5, -1.0]), rtol=0, atol=0.1)
    torch.testing.assert_close(x.std(0), torch.tensor([0.5, 0.5]), rtol=0, atol=0.1)


def test_pairs_are_reproduced_by_torchs_seed_alone():
    def loss():
        torch.manual_seed(0)
        flow = FlowMatching((2,), 2, make_dynamics=DYNAMICS["mlp"], solve=TIGHT, coupling="ot")
        return flow.regression(*clouds(64))

    first, second = loss(), loss()
    assert torch.equal(first["loss"], second["loss"]) and first["coupling_ms"] > 0


def test_a_flow_from_data_has_no_normal_to_sample_from():
    flow = linear_flow(torch.eye(2))
    flow.source = "8gaussians"
    with pytest.raises(ValueError, match="starts from points of 8gaussians"):
        flow.sample(3)


def test_the_condition_in_the_cost_pairs_within_classes_at_the_least_cost():
    x, y = clouds(120)
    labels = torch.randint(3, (120,), generator=torch.Generator().manual_seed(1))
    order = pairing(x, y, labels)
    assert sorted(order.tolist()) == list(range(120)) and torch.equal(labels[order], labels)
    cost = squared_distances(x, y) + 1e6 * (labels[:, None] != labels)  # as Cheng and Schwing (2025) have it
    rows, columns = linear_sum_assignment(cost.numpy())
    least = cost.numpy()[rows, columns].sum()
    assert (x[order] - y).double().square().sum().item() == pytest.approx(least, rel=1e-6)
    assert w2_squared(x, y, labels).item() == pytest.approx(least / 120, rel=1e-6)
    assert w2_squared(x, y, labels) > w2_squared(x, y)


@pytest.mark.parametrize(
    ("coupling", "classes", "remedy"), [("ot", 2, "conditional_ot,"), ("conditional_ot", None, "ot,")]
)
def test_a_pairing_that_does_not_fit_the_condition_is_refused(coupling, classes, remedy):
    with pytest.raises(ValueError, match=f"use {remedy}"):
        FlowMatching((2,), 2, make_dynamics=DYNAMICS["mlp"], solve=TIGHT, coupling=coupling, classes=classes)


class Shifted(torch.nn.Module):
    """dx/dt = c, the class of a state [x, one-hot of c] in one dimension."""

    def __init__(self, shape):
        super().__init__()
        self.values = torch.nn.Parameter(torch.arange(shape[0] - 1.0))

    def forward(self, t, y):
        return torch.cat([(y[:, 1:] * self.values).sum(1, keepdim=True), torch.zeros_like(y[:, 1:])], 1)


@pytest.mark.parametrize("test_divergence", ["exact", "hutchinson"])
@pytest.mark.parametrize("per_sample", [False, True])
def test_each_class_has_a_density_of_its_own(test_divergence, per_sample):
    solve = replace(TIGHT, per_sample=per_sample)
    options = {"classes": 3, "test_tolerance": None, "test_divergence": test_divergence}
    flow = FlowMatching((1,), 1, make_dynamics=Shifted, solve=solve, **options).double().eval()
    x, labels = torch.linspace(-2, 3, 11, dtype=torch.float64)[:, None], torch.arange(11) % 3
    normals = torch.distributions.Normal(torch.arange(3.0).double(), 1.0)
    each = normals.log_prob(x)  # N(c, 1)
    torch.testing.assert_close(flow.log_prob(x, labels=labels), each.gather(1, labels[:, None])[:, 0])
    torch.testing.assert_close(flow.log_prob(x), each.logsumexp(1) - math.log(3))
    torch.testing.assert_close(flow.decode(x, labels), x + labels[:, None])
    torch.testing.assert_close(flow.euler(x, labels), x + labels[:, None])
    moved, energy = flow.transport(x, labels)
    torch.testing.assert_close((moved, energy), (x + labels[:, None], labels.double().square()))
    assert flow.inverse_error(x, labels=labels) < 1e-8
    with pytest.raises(ValueError, match="conditioned on one of 3 classes: give labels"):
        flow.decode(x)
    with pytest.raises(ValueError, match="conditioned on no class"):
        linear_flow(torch.eye(2)).decode(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("coupling", ["independent", "conditional_ot"])
def test_the_regression_learns_each_class(coupling):
    """Two normals, a class each, in 300 steps: samples of a class are its own, and its density integrates to 1."""
    torch.manual_seed(0)
    make = partial(DYNAMICS["mlp"], layers=3, hidden=32, activation="silu")
    solve = ConfiguredSolve(rtol=1e-4, atol=1e-4, gradient="backprop")
    flow = FlowMatching((2,), 2, make_dynamics=make, solve=solve, coupling=coupling, classes=2, test_tolerance=1e-4)
    means = torch.tensor([[1.5, -1.0], [-1.5, 0.5]])
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 300)
        labels = torch.randint(2, (128,))
        loss = flow.regression(means[labels] + 0.5 * torch.randn(128, 2), None, labels)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    flow.eval()
    axis = torch.arange(-4, 4, 0.2)
    grid = torch.cartesian_prod(axis, axis)
    for label, mean in enumerate(means):
        x = flow.sample(1000, labels=torch.full((1000,), label))
        torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.15)
        torch.testing.assert_close(x.std(0), torch.tensor([0.5, 0.5]), rtol=0, atol=0.1)
        with torch.no_grad():
            total = 0.04 * flow.log_prob(grid, labels=torch.full((len(grid),), label)).exp().sum()
        assert total.item() == pytest.approx(1, abs=0.01)
    assert flow.sample(1000)[:, 0].std() > 1.2  # of both classes
