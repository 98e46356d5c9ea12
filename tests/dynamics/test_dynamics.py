import pytest
import torch
from torch import nn

from noderun.dynamics import DYNAMICS
from noderun.dynamics.conv import TimeConv2d

STATES = {"conv": [(64, 6, 6), (3, 5, 4)], "mlp": [(7,), (2, 3, 3)]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name in DYNAMICS for shape in STATES[name]])
def test_every_dynamics_keeps_shape_and_dtype_and_passes_gradients(name, shape, dtype):
    torch.manual_seed(0)
    f = DYNAMICS[name](shape).to(dtype)
    y = torch.randn(4, *shape, dtype=dtype, requires_grad=True)
    t = torch.tensor(0.3, dtype=dtype, requires_grad=True)
    dy = f(t, y)
    assert dy.shape == y.shape and dy.dtype == dtype
    (dy * torch.randn_like(dy)).sum().backward()
    for tensor in (t, y, *f.parameters()):
        assert tensor.grad is not None and tensor.grad.abs().max() > 0


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name in DYNAMICS for shape in STATES[name]])
def test_a_time_per_sample_equals_each_sample_at_its_own_time(name, shape):
    torch.manual_seed(0)
    f = DYNAMICS[name](shape).double()
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


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: DYNAMICS["conv"]((10,)), "choose dynamics=mlp"),
        (lambda: DYNAMICS["conv"]((48, 3, 3)), "multiple of 32, got 48"),
        (lambda: DYNAMICS["mlp"]((3,), activation="tnah"), "there are elu"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
