"""Discrete flows through zuko: a bijection and its log-determinant."""

import pytest
import torch

from noderun.models import MODELS

OPTIONS = {"zuko_cnf": {"hidden_features": (8,), "rtol": 1e-10, "atol": 1e-10}}


@pytest.mark.parametrize("name", ["realnvp", "nsf", "maf", "zuko_cnf"])
def test_the_log_determinant_is_that_of_the_jacobian_and_decoding_inverts(name):
    torch.manual_seed(0)
    options = OPTIONS.get(name, {})
    flow = MODELS[name]((3,), 3, **options).double()
    x = torch.randn(2, 3, dtype=torch.float64)
    z, log_det = flow.encode(x)
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda y: flow.encode(y[None])[0][0], y) for y in x])
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobians)[1], rtol=0, atol=1e-6 if options else 1e-9)
    torch.testing.assert_close(flow.decode(z), x, rtol=0, atol=1e-6)
    back, change = flow.decode_with_log_det(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-6)
    torch.testing.assert_close(change, -log_det, rtol=0, atol=1e-6)


def test_the_neural_spline_flow_has_zukos_parameters():
    assert sum(p.numel() for p in MODELS["nsf"]((2,), 2).parameters()) == 22_026
    assert sum(p.numel() for p in MODELS["realnvp"]((2,), 2, transforms=8).parameters()) == 35_344
