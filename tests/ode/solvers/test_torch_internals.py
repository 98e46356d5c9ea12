"""What stands in for private parts of torch finds what they find; without them solves and gradients are the same."""

import sys

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

import noderun
from noderun.ode.gradients import GRADIENTS
from noderun.ode.solvers.torch_internals import add_to_each, under_transform

TRANSFORMS = {
    "nothing": lambda look: look(torch.ones(())),
    "no_grad": torch.no_grad()(lambda look: look(torch.ones(()))),
    "vmap": lambda look: torch.vmap(look)(torch.ones(3)),
    "grad": lambda look: torch.func.grad(look)(torch.ones(())),
    "jvp": lambda look: torch.func.jvp(look, (torch.ones(()),), (torch.ones(()),)),
    "dual level": forward_ad.dual_level()(lambda look: look(torch.ones(()))),
}


@pytest.fixture
def public(monkeypatch):
    """Takes away what an eager solve uses."""
    monkeypatch.delattr(torch._C._functorch, "peek_interpreter_stack")
    monkeypatch.delattr(torch, "_foreach_add_")
    monkeypatch.delattr(torch._C, "_len_torch_dispatch_stack")


def found_under(transform):
    seen = []
    TRANSFORMS[transform](lambda x: (seen.append(under_transform()), x)[1])
    return seen[0]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_transform_is_found_by_public_signs_too(transform, request):
    by_private_ones = found_under(transform)
    request.getfixturevalue("public")
    assert found_under(transform) == by_private_ones == (transform not in ("nothing", "no_grad"))


def test_sums_are_the_same(request):
    def total():
        totals = [torch.ones(3), torch.zeros(2, 2)]
        add_to_each(totals, [torch.arange(3.0), torch.ones(2, 2)], alpha=-0.5)
        return totals

    expected = total()
    request.getfixturevalue("public")
    torch.testing.assert_close(total(), expected, rtol=0, atol=0)


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -0.5]))

    def forward(self, t, y):
        return torch.tanh(self.w * y)


def gradient(name):
    f, y0 = Field(), torch.ones(2, requires_grad=True)
    solver = "reversible_heun" if name == "reversible" else "dopri5"
    ys = noderun.solve(f, y0, [0.0, 1.0], solver=solver, gradient=name).ys
    return torch.autograd.grad(ys.square().sum(), (y0, f.w))


@pytest.mark.parametrize("name", GRADIENTS)
def test_eager_gradients_need_nothing_private(name, request):
    expected = gradient(name)
    request.getfixturevalue("public")
    assert all(map(torch.equal, gradient(name), expected))


@pytest.mark.parametrize("missing", ["_subclasses.fake_tensor", "_inductor.compile_fx"])
def test_compiled_steps_are_eager_where_a_private_part_is_missing(missing, monkeypatch):
    f, y0 = Field(), torch.ones(2)
    with torch.no_grad():
        expected = noderun.solve(f, y0, [0.0, 1.0]).ys
        monkeypatch.setitem(sys.modules, f"torch.{missing}", None)
        with pytest.warns(UserWarning, match="steps of this f are not compiled") as told:
            found = noderun.solve(f, y0, [0.0, 1.0], compile=True).ys
    assert len(told) == 1 and torch.equal(found, expected)
