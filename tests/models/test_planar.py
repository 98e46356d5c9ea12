"""Planar flows: formulas against autograd, inverses, and the density that they have."""

import pytest
import torch

from noderun.models import MODELS
from noderun.models.planar import invertible, planar, planar_inverse


def layer(dim, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    u, w = (scale * torch.randn(dim, generator=generator, dtype=torch.float64) for _ in range(2))
    return invertible(u, w), w, torch.randn((), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_the_determinant_is_that_of_the_jacobian_and_the_inverse_undoes_it(dim, seed):
    u, w, b = layer(dim, seed)
    assert w @ u > -1
    z = torch.randn(7, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    y, log_det = planar(z, u, w, b)
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda x: planar(x, u, w, b)[0], x) for x in z])
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobians)[1], rtol=0, atol=1e-12)
    back, change = planar_inverse(y, u, w, b)
    torch.testing.assert_close(back, z, rtol=0, atol=1e-12)
    torch.testing.assert_close(change, -log_det, rtol=0, atol=1e-12)


def test_the_reparametrization_keeps_what_it_may_and_bounds_the_rest():
    w = torch.tensor([1.0, 0.0], dtype=torch.float64)
    u = torch.tensor([[-50.0, 3.0], [50.0, 3.0]], dtype=torch.float64)
    fixed = invertible(u, w)
    assert torch.equal(fixed[:, 1], u[:, 1])  # only along w
    assert fixed[0, 0] == pytest.approx(-1) and fixed[1, 0] == pytest.approx(49)


def test_the_inverse_has_the_derivatives_of_the_root():
    parts = [p.requires_grad_() for p in layer(3)]
    y = torch.randn(2, 3, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(planar_inverse, (y, *parts))


@pytest.mark.parametrize("formula", ["encode", "decode"])
def test_both_directions_agree(formula):
    torch.manual_seed(0)
    flow = MODELS["planar_nf"]((2,), 2, layers=8, formula=formula).double()
    z = torch.randn(50, 2, dtype=torch.float64)
    y, log_det = flow.decode_with_log_det(z)
    back, change = flow.encode(y)
    torch.testing.assert_close(back, z, rtol=0, atol=1e-9)
    torch.testing.assert_close(change, -log_det, rtol=0, atol=1e-9)
    torch.testing.assert_close(flow.decode(z), y)
