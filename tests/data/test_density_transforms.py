"""Bijections between the data and the space in which a density is learned."""

import pytest
import torch

from noderun.data.transforms import Logit, Standardize, Transform

TRANSFORMS = {
    "identity": Transform(),
    "standardize": Standardize(torch.tensor([0.5, -1.0, 0.0]), torch.tensor([2.0, 0.1, 1.0])).double(),
    "logit": Logit(0.05, levels=17),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_inverse_and_the_change_of_volume(name):
    transform, x = TRANSFORMS[name], torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y, log_det = transform(x)
    assert torch.allclose(transform.inverse(y), x, rtol=1e-12)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: transform(row[None])[0][0]))(x)
    assert torch.allclose(log_det, torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-12)
