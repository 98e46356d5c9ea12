import pytest
import torch
from torch import nn

from noderun.dynamics import DYNAMICS
from noderun.dynamics.conv import TimeConv2d
from noderun.dynamics.conv_squash import SquashConv2d
from noderun.dynamics.systems import HamiltonianField
from noderun.lab.problems import PROBLEMS

MAPS = [(64, 6, 6), (3, 5, 4)]
STATES = {
    "conv": MAPS,
    "conv_anode": [(6, 8, 8)],
    "conv_squash": MAPS,
    "mlp": [(7,), (2, 3, 3)],
    "time_mlp": [(7,), (2, 3, 3)],
    "transformer": [*MAPS, (5, 3)],
    "unet": [*MAPS, (1, 3, 3)],
    "conv1d": [(16,)],
}
KNOWN = {"lotka_volterra": 2, "pendulum": 2, "lorenz": 3}  # systems of one kind of state
NETS = [name for name in DYNAMICS if name in STATES]
OPTIONS = {"conv_anode": dict(hidden=8, time=True), "conv_squash": dict(hidden=8), "conv1d": dict(hidden=8, time=True)}


def make(name, shape, **options):
    return DYNAMICS[name](shape, **OPTIONS.get(name, {}) | options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name in NETS for shape in STATES[name]])
def test_every_dynamics_keeps_shape_and_dtype_and_passes_gradients(name, shape, dtype):
    torch.manual_seed(0)
    f = make(name, shape).to(dtype)
    y = torch.randn(4, *shape, dtype=dtype, requires_grad=True)
    t = torch.tensor(0.3, dtype=dtype, requires_grad=True)
    dy = f(t, y)
    assert dy.shape == y.shape and dy.dtype == dtype
    (dy * torch.randn_like(dy)).sum().backward()
    for tensor in (t, y, *f.parameters()):
        assert tensor.grad is not None and tensor.grad.abs().max() > 0


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name in NETS for shape in STATES[name]])
def test_a_time_per_sample_equals_each_sample_at_its_own_time(name, shape):
    torch.manual_seed(0)
    f = make(name, shape).double()
    y = torch.randn(3, *shape, dtype=torch.float64)
    t = torch.rand(3, *[1] * len(shape), dtype=torch.float64)
    alone = torch.cat([f(t[i].reshape(()), y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(f(t, y), alone)


def test_time_conv_is_the_convolution_of_the_concatenation():
    torch.manual_seed(0)
    found, reference = TimeConv2d(5).double(), nn.Conv2d(6, 5, 3, padding=1).double()
    assert found.load_state_dict(reference.state_dict())
    x = torch.randn(2, 5, 6, 7, dtype=torch.float64, requires_grad=True)
    t = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    values, gradients = [], []
    concatenated = reference(torch.cat([t.expand(2, 1, 6, 7), x], dim=1))
    for value, parameters in ((found(t, x), found.parameters()), (concatenated, reference.parameters())):
        values.append(value)
        gradients.append(torch.autograd.grad((value * weights).sum(), [t, x, *parameters]))
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients)


def test_mlp_without_time_ignores_it_and_may_bound_its_output():
    f = DYNAMICS["mlp"]((4,), hidden=9, layers=1, activation="relu", time=False, output="sigmoid")
    y = 100 * torch.randn(5, 4)
    assert torch.equal(f(torch.tensor(0.0), y), f(torch.tensor(1.0), y))
    assert f(torch.tensor(0.0), y).min() >= 0
    assert sum(p.numel() for p in f.parameters()) == 4 * 4 + 4


def test_a_transformer_without_positions_is_equivariant_under_permutations_of_its_tokens():
    torch.manual_seed(0)
    y, order, t = torch.randn(2, 6, 4, dtype=torch.float64), torch.randperm(6), torch.tensor(0.3, dtype=torch.float64)
    alike = DYNAMICS["transformer"]((6, 4), width=8, positions=False).double()
    torch.testing.assert_close(alike(t, y[:, order]), alike(t, y)[:, order])
    placed = DYNAMICS["transformer"]((6, 4), width=8).double()
    assert not torch.allclose(placed(t, y[:, order]), placed(t, y)[:, order])


def test_patches_are_the_tokens_of_the_map():
    y = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    f = DYNAMICS["transformer"]((3, 4, 6), patch=2)
    tokens = f.cut(y)
    assert tokens.shape == (2, 6, 12)
    torch.testing.assert_close(tokens[1, 5].reshape(3, 2, 2), y[1, :, 2:4, 4:6])
    torch.testing.assert_close(f.joined(tokens, y.shape), y)


def test_squash_convolution_is_the_gated_and_shifted_one():
    torch.manual_seed(0)
    layer, x, t = SquashConv2d(3, 4), torch.randn(2, 3, 5, 5), torch.tensor(0.4)
    gate = torch.sigmoid(layer.gate.weight[:, 0] * t + layer.gate.bias)
    expected = layer.conv(x) * gate.view(4, 1, 1) + (layer.shift.weight[:, 0] * t).view(4, 1, 1)
    torch.testing.assert_close(layer(t, x), expected)


@pytest.mark.parametrize("name", KNOWN)
def test_known_systems_are_those_of_the_lab(name):
    """At the lab's parameters, which know nothing of ours; the pendulum's has no damping."""
    classical = {
        "lotka_volterra": dict(alpha=1.5, beta=1.0, gamma=3.0, delta=1.0),
        "pendulum": dict(frequency=1.0, damping=1e-30),
        "lorenz": dict(sigma=10.0, rho=28.0, beta=8 / 3),
    }
    f = DYNAMICS[name]((KNOWN[name],), **classical[name]).double()
    y = 1 + torch.rand(5, KNOWN[name], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    problem = PROBLEMS[name]()
    for row, slope in zip(y, f(torch.tensor(0.0), y), strict=True):
        torch.testing.assert_close(slope, problem.f(torch.tensor(0.0), row), rtol=1e-6, atol=1e-6)
    for parameter in f.parameters():
        (gradient,) = torch.autograd.grad(f(torch.tensor(0.0), y).sum(), parameter, retain_graph=True)
        assert gradient.abs() > 0 or name == "pendulum"


def test_the_prey_may_be_the_second_channel():
    y = torch.tensor([[2.0, 3.0]])
    one, other = DYNAMICS["lotka_volterra"]((2,)), DYNAMICS["lotka_volterra"]((2,), prey=1)
    torch.testing.assert_close(one(0.0, y), other(0.0, y.flip(1)).flip(1))


def test_hamiltons_equations_keep_energy_and_volume():
    torch.manual_seed(0)
    f = HamiltonianField((6,), hidden=16).double()
    y = torch.randn(1, 6, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(f.energy(y).sum(), y)
    assert (slope * f(None, y)).sum().abs() < 1e-12
    jacobian = torch.autograd.functional.jacobian(lambda y: f(None, y)[0], y)[:, 0]
    assert jacobian.trace().abs() < 1e-12 and jacobian.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: DYNAMICS["conv"]((10,)), "choose dynamics=mlp"),
        (lambda: DYNAMICS["unet"]((10,)), "choose dynamics=mlp"),
        (lambda: DYNAMICS["transformer"]((10,)), "tokens"),
        (lambda: DYNAMICS["transformer"]((4, 6, 6), patch=4), "patches of 4 do not tile 6x6"),
        (lambda: DYNAMICS["transformer"]((4, 6, 6), heads=3), "expected a multiple"),
        (lambda: DYNAMICS["mlp"]((3,), activation="tnah"), "there are elu"),
        (lambda: DYNAMICS["lorenz"]((2,)), "has a state of 3 numbers"),
        (lambda: DYNAMICS["bouncing_ball"]((2,)), "seen by its height"),
        (lambda: HamiltonianField((3,)), "as many momenta as positions"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_conv1d_is_circular_convolutions_and_commutes_with_translations():
    torch.manual_seed(0)
    f = DYNAMICS["conv1d"]((24,), hidden=5, layers=3, kernel=7).double()
    y, t = torch.randn(2, 24, dtype=torch.float64), torch.tensor(0.0)
    torch.testing.assert_close(f(t, y.roll(5, 1)), f(t, y).roll(5, 1))
    h = y.unsqueeze(1)
    for layer in f.net:
        h = nn.functional.pad(h, (3, 3), mode="circular") if isinstance(layer, nn.Conv1d) else h
        h = layer(h)
    torch.testing.assert_close(f(t, y), h.squeeze(1))


def test_conv1d_says_what_grid_and_kernel_it_takes():
    for shape, options, words in [
        ((3, 8), {}, "periodic grid"),
        ((24,), {"kernel": 4}, "kernel=4 has no middle: give an odd number, as 5"),
        ((7,), {}, "sees 8 points on each side, and the grid has 7"),
    ]:
        with pytest.raises(ValueError, match=words):
            DYNAMICS["conv1d"](shape, **options)
