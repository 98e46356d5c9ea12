"""Equations on a periodic grid against closed forms, scipy and exponax; the protocol; Poisson's energy."""

import math

import numpy
import pytest
import torch
from scipy.integrate import quad, solve_ivp
from scipy.special import ive

from noderun.data import SETS, DataError
from noderun.data.pde import waves
from noderun.data.spectral import ConservationLaw

LAWS = {"burgers": (96, 1.0, 0.01, 0.0), "kuramoto_sivashinsky": (48, 22.0, -1.0, -1.0)}
TIMES = {"burgers": 0.2, "kuramoto_sivashinsky": 1.0}
FEWEST = {"burgers": 16, "kuramoto_sivashinsky": 64}  # steps from which the order shows
SMALL = {"examples": 3, "steps": 6, "test_steps": 9, "points": 48}


def start(points):
    """A few waves of height 1."""
    return waves(2, points, 3)


@pytest.mark.parametrize("name", LAWS)
def test_the_method_has_order_4_in_time_and_keeps_the_mean(name):
    law = ConservationLaw(*LAWS[name])
    u0, n = 0.3 + start(law.points), FEWEST[name]
    coarse, *finer, finest = (law.states(u0, TIMES[name], 1, n * k)[:, -1] for k in (1, 2, 4, 16))
    errors = [(end - finest).norm() for end in (coarse, *finer)]
    orders = [math.log2(a / b) for a, b in zip(errors[:-1], errors[1:], strict=True)]
    assert 3.7 < min(orders) and max(orders) < 4.4
    assert (coarse.mean(1) - 0.3).abs().max() < 1e-13


def test_burgers_is_cole_and_hopfs_solution():
    """u = -2 nu theta_x / theta, where theta has Bessel functions as coefficients for u(x, 0) = sin(2 pi x)."""
    nu, t, x = 0.02, 0.3, numpy.arange(128) / 128
    n = numpy.arange(1, 40)[:, None]
    r = 1 / (4 * math.pi * nu)
    coefficients = 2 * ive(n, r) * numpy.exp(-nu * (2 * math.pi * n) ** 2 * t)
    theta = ive(0, r) + (coefficients * numpy.cos(2 * math.pi * n * x)).sum(0)
    exact = 4 * math.pi * nu * (n * coefficients * numpy.sin(2 * math.pi * n * x)).sum(0) / theta
    found = ConservationLaw(128, 1.0, nu).states(torch.from_numpy(numpy.sin(2 * math.pi * x))[None], t / 3, 3)
    numpy.testing.assert_allclose(found[0, -1].numpy(), exact, atol=1e-8)


def test_kuramoto_sivashinsky_is_scipys_solution():
    points, length = 64, 22.0
    k = 2j * math.pi / length * numpy.fft.fftfreq(points, 1 / points)

    def f(t, u):
        v = numpy.fft.fft(u)
        derivative = lambda n: numpy.fft.ifft(k**n * v).real  # noqa: E731
        return -u * derivative(1) - derivative(2) - derivative(4)

    u0 = start(points)[0]
    exact = solve_ivp(f, (0, 5), u0.numpy(), "Radau", [2.5, 5], rtol=1e-9, atol=1e-10).y.T
    found = ConservationLaw(points, length, -1.0, -1.0).states(u0[None], 2.5, 2, 200)
    numpy.testing.assert_allclose(found[0, 1:].numpy(), exact, atol=1e-6)
    rate = ConservationLaw(points, length, -1.0, -1.0).rate(u0)
    numpy.testing.assert_allclose(rate.numpy(), f(0, u0.numpy()), atol=1e-9)


@pytest.mark.long  # for jax's compiler
@pytest.mark.parametrize("name", LAWS)
def test_a_step_is_exponaxs(name):
    exponax = pytest.importorskip("exponax", reason="exponax is not installed: pip install exponax")
    jax = pytest.importorskip("jax")
    points, length, second, fourth = LAWS[name]
    u0, h = start(points), TIMES[name] / 20
    with jax.enable_x64(True):
        step = exponax.stepper.generic.GeneralConvectionStepper(
            1, length, points, h, linear_coefficients=(0, 0, second, 0, fourth), conservative=True, order=4
        )
        there = exponax.rollout(step, 20)(jax.numpy.asarray(u0[:1].numpy()))
    found = ConservationLaw(*LAWS[name]).states(u0[:1], h, 20, 1)[0, 1:]
    numpy.testing.assert_allclose(found.numpy(), numpy.asarray(there)[:, 0], atol=1e-10)


@pytest.mark.parametrize("name", LAWS)
def test_training_sees_windows_and_the_test_whole_trajectories(name, tmp_path):
    longer = {"length": 30.0} if name == "kuramoto_sivashinsky" else {"viscosity": 0.02}
    dataset = SETS[name].read(tmp_path, unroll=3, **SMALL, **longer)
    assert dataset.shape == (1, 48) and dataset.sample == "series" and dataset.test.targets.shape == (30, 9, 48)
    rows = dataset.train
    assert len(rows) == 3 * 4 and rows.targets.shape == (12, 3, 48)
    assert torch.equal(rows.targets[:3, 0], rows.inputs[1:4, 0]) and not torch.equal(
        rows.targets[3, 0], rows.inputs[4, 0]
    )
    assert rows.target_times[0].tolist() == [1, 2, 3] and dataset.test.times.unique().tolist() == [0]
    # a step of the data is 1 in time: the field is the slope of states close to each other
    state = dataset.test.inputs[:2, 0].double()
    ahead = ConservationLaw(48, longer.get("length", 1.0), longer.get("viscosity", -1.0), -1.0 * (name != "burgers"))
    dt = 4 / 9 if name == "kuramoto_sivashinsky" else 0.009375
    slope = (ahead.states(state, 1e-4 * dt, 1)[:, -1] - state) / 1e-4
    torch.testing.assert_close(dataset.target.system.field(state), slope, rtol=1e-3, atol=1e-3)


REFUSED = [
    ("burgers", {"viscosity": 0.0001}, "data.viscosity=0.0001 .* at least 5000 points, or data.viscosity=0.003125 "),
    ("burgers", {"points": 100}, "at least 160 points"),
    ("burgers", {"unroll": 60}, "data.unroll=60 is longer .* at most data.steps=50"),
    ("kuramoto_sivashinsky", {"length": 6.0}, "no wave that grows"),
    ("kuramoto_sivashinsky", {"points": 64}, "needs data.points of at least 102, not 64"),
]


@pytest.mark.parametrize(("name", "given", "words"), REFUSED)
def test_what_a_grid_cannot_hold_is_refused(name, given, words, tmp_path):
    with pytest.raises(DataError, match=words):
        SETS[name].read(tmp_path, **given)


def test_poissons_solutions_are_those_of_finite_elements_and_have_the_least_energy(tmp_path):
    points = 12
    dataset = SETS["poisson"].read(tmp_path, points=points, modes=3, examples=5)
    h, c = 1 / (points + 1), dataset.train.inputs.double()

    def load(row, i):
        f = lambda x: math.pi**2 * sum(a * math.sin((k + 1) * math.pi * x) for k, a in enumerate(row.tolist()))  # noqa: E731
        hat = lambda x: f(x) * max(0.0, 1 - abs(x - i * h) / h)  # noqa: E731
        return quad(hat, (i - 1) * h, i * h)[0] + quad(hat, i * h, (i + 1) * h)[0]

    stiffness = (2 * numpy.eye(points) - numpy.eye(points, k=1) - numpy.eye(points, k=-1)) / h
    loads = numpy.array([[load(row, i + 1) for i in range(points)] for row in c])
    elements = numpy.linalg.solve(stiffness, loads.T).T
    numpy.testing.assert_allclose(dataset.train.targets.numpy(), elements, atol=1e-6)
    u = torch.from_numpy(elements).requires_grad_()
    energy = dataset.target.energy(c, u)
    numpy.testing.assert_allclose(energy.detach().numpy(), -(loads * elements).sum(1) / 2, rtol=1e-6)
    (slope,) = torch.autograd.grad(energy.sum(), u)
    assert slope.abs().max() < 1e-5
    assert (dataset.target.energy(c, u + 0.1 * torch.randn(5, points)) > energy).all()
