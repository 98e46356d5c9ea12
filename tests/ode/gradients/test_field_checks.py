"""What f may be where it is differentiated: what would give a wrong gradient without a word is right, or refused."""

import pytest
import torch
from gradient_problems import F64, Field, loss, pairs, relative
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import relu_

import noderun

ALL = list(noderun.GRADIENTS)
OTHERS = [g for g in ALL if g != "backprop"]
SAMPLES = ["checkpointed", "adjoint"]  # with per_sample=True, beside backprop
MODES = [(g, False) for g in OTHERS] + [(g, True) for g in SAMPLES]
Y0 = torch.tensor([[0.7, -0.4], [0.2, 0.1], [-0.5, 0.3]], dtype=F64)


def solved(f, gradient, per_sample=False, y0=Y0, ts=(0.0, 0.5, 1.0), **options):
    reversible = gradient == "reversible"
    chosen = {"solver": "reversible_heun" if reversible else "dopri5", "gradient": gradient, "per_sample": per_sample}
    steps = {"dt": 0.01} if reversible else {"rtol": 1e-9, "atol": 1e-9}
    return noderun.solve(f, y0, ts, **(chosen | steps | options))


class Hidden(nn.Module):
    """Its net is in a plain list, where Module.parameters() does not find it."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=F64))
        self.nets = [nn.Linear(2, 2).double()]

    def forward(self, t, y, *args):
        return self.scale * torch.tanh(self.nets[0](y))


@pytest.mark.parametrize(("gradient", "per_sample"), MODES)
@pytest.mark.parametrize("how", ["args", "params", "list", "global"])
def test_tensors_that_a_method_cannot_find_are_refused(gradient, per_sample, how):
    net, k = nn.Linear(2, 2).double(), torch.tensor(0.5, dtype=F64, requires_grad=True)
    cases = {
        "args": (lambda t, y, k: k * torch.tanh(net(y)), {"args": (k,)}),
        "params": (lambda t, y: k * torch.tanh(net(y)), {"params": (k,)}),
        "list": (Hidden(), {}),
        "global": (lambda t, y: torch.tanh(y @ (2 * net.weight)), {}),  # a function of a parameter, made outside
    }
    f, options = cases[how]
    with pytest.raises(ValueError, match=r"requires? gradients and cannot be found.*name them with params="):
        solved(f, gradient, per_sample, **options)
    with torch.no_grad():
        solved(f, gradient, per_sample, **options)
    if how == "params":
        solved(f, gradient, per_sample, params=(k, *net.parameters())).ys.sum().backward()
        assert net.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("gradient", "per_sample"), MODES)
@pytest.mark.parametrize("cut", ["detach", "item", "no_grad", "tensor", "component"])
def test_a_graph_that_f_cuts_is_refused(gradient, per_sample, cut):
    w = torch.tensor(0.5, dtype=F64, requires_grad=True)

    def f(t, y):
        if cut == "item":
            return w * torch.stack([-0.1 * torch.full_like(row, row.sum().item()) for row in y])
        if cut == "tensor":
            return w * torch.tensor((-y).tolist(), dtype=F64)
        if cut == "component":
            return {"a": -y["b"].detach(), "b": -y["b"]}
        with torch.no_grad():
            inner = -y
        return w * (inner if cut == "no_grad" else -y.detach())

    y0 = {"a": Y0[:, :1], "b": Y0[:, 1:]} if cut == "component" else Y0
    if cut == "component" and per_sample:
        return  # one vector of a sample's components is looked at as a whole
    with pytest.raises(ValueError, match="autograd does not see it"):
        solved(f, gradient, per_sample, y0, params=(w,))


@pytest.mark.parametrize(("gradient", "per_sample"), MODES)
def test_a_function_of_t_alone_is_no_cut_graph(gradient, per_sample):
    p, y0 = torch.tensor(0.5, dtype=F64, requires_grad=True), Y0.clone().requires_grad_()
    sol = solved(lambda t, y: (p * torch.cos(t)).expand_as(y), gradient, per_sample, y0, params=(p,))
    sol.ys[-1].sum().backward()
    assert p.grad.item() == pytest.approx(6 * torch.sin(torch.tensor(1.0)).item(), rel=1e-4)
    assert torch.equal(y0.grad, torch.ones_like(y0))


def test_a_partly_cut_tuple_is_not_refused_for_what_is_no_function_of_y():
    y0 = (torch.ones(1, dtype=F64), torch.zeros(1, dtype=F64))
    y0 = tuple(y.requires_grad_() for y in y0)
    ys, clock = solved(lambda t, y: (-y[0], t.expand(1)), "checkpointed", y0=y0).ys
    (ys[-1] + clock[-1]).backward()
    assert y0[0].grad.item() == pytest.approx(torch.e**-1)


ANOTHER = "not the function that the forward solve called.*args="
AGAIN = [m for m in MODES if m[0] != "forward"]  # those that call f in the backward pass


class Driven(Field):
    """Its input is set anew for each interval."""

    def __init__(self):
        super().__init__()
        self.register_buffer("rate", torch.ones((), dtype=F64))
        self.gain = 1.0

    def forward(self, t, y):
        return super().forward(t, y) * self.gain * self.rate


@pytest.mark.parametrize(("gradient", "per_sample"), AGAIN)
@pytest.mark.parametrize("kind", ["attribute", "buffer"])
def test_an_f_that_became_another_is_refused(gradient, per_sample, kind):
    field, y = Driven(), Y0
    for i in range(2):
        if kind == "attribute":
            field.gain = 1.0 + i
        else:
            field.rate = torch.tensor(1.0 + i, dtype=F64)
        y = solved(field, gradient, per_sample, y).ys[-1]
    with pytest.raises(RuntimeError, match=ANOTHER):
        y.sum().backward()


@pytest.mark.long
@pytest.mark.parametrize("gradient", ["checkpointed", "adjoint"])
def test_a_compiled_f_that_became_another_is_refused(gradient):
    field, y = Driven(), Y0
    for i in range(2):
        field.gain = 1.0 + i
        y = solved(field, gradient, y0=y, compile=True).ys[-1]
    with pytest.raises(RuntimeError, match=ANOTHER):
        y.sum().backward()


@pytest.mark.parametrize(("gradient", "per_sample"), [("backprop", False), ("backprop", True), *MODES])
def test_a_loss_on_the_slope_is_right_or_refused(gradient, per_sample):
    """d/dp of dy/dt at the output times and at the start, against differences."""

    def slopes(p, create_graph):
        ts = torch.tensor([0.1, 0.6, 0.9], dtype=F64, requires_grad=True)
        ys = solved(lambda t, y: torch.cos(3 * t) - p * y * y, gradient, per_sample, ts=ts, params=(p,)).ys
        (rate,) = torch.autograd.grad(ys.sum(), ts, create_graph=create_graph)
        return rate.square().sum()

    p = torch.tensor(0.8, dtype=F64, requires_grad=True)
    if gradient != "backprop":  # dy(t_i)/dt_0 passes through the solve, a second time
        with pytest.raises(RuntimeError, match="differentiated once; use gradient='backprop'"):
            slopes(p, True)
        return
    (computed,) = torch.autograd.grad(slopes(p, True), p)
    ends = [slopes((p.detach() + e).requires_grad_(), False).item() for e in (-1e-5, 1e-5)]
    assert computed.item() == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-5)


def test_second_derivatives_in_the_times():
    def end(t0, t1):
        f = lambda t, y: torch.cos(3 * t) - 0.8 * y * y  # noqa: E731
        ts = torch.stack([t0, t1])
        return noderun.solve(f, Y0, ts, solver="dop853", rtol=1e-11, atol=1e-11, gradient="backprop").ys[-1].sum()

    times = [torch.tensor(t, dtype=F64, requires_grad=True) for t in (0.1, 0.7)]
    assert torch.autograd.gradgradcheck(end, times, atol=1e-4)


class Energy(nn.Module):
    """A Hamiltonian field: f takes a gradient inside, in one of the ways that people write it."""

    def __init__(self, way):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).double()
        self.way = way

    def forward(self, t, y):
        if self.way == "leaf":  # only where y requires no gradient yet
            y = y if y.requires_grad else y.detach().requires_grad_()
        if self.way == "marked":
            with torch.enable_grad():
                y.requires_grad_()
                (g,) = torch.autograd.grad(self.net(y).sum(), y, create_graph=True)
        else:
            (g,) = torch.autograd.grad(self.net(y).sum(), y, create_graph=True)
        return torch.stack([g[..., 1], -g[..., 0]], -1)


@pytest.mark.parametrize("way", ["bare", "leaf", "marked"])
@pytest.mark.parametrize(("gradient", "per_sample"), [("backprop", False), ("backprop", True), *MODES])
@pytest.mark.parametrize("solver", ["dopri5", "radau5", "bdf", "rosenbrock23", "rk4"])
def test_f_may_differentiate_inside(way, gradient, per_sample, solver):
    if (gradient in ("forward", "symplectic", "reversible") and solver != "dopri5") or (per_sample and solver == "bdf"):
        return
    steps = {"dt": 0.1} if solver == "rk4" else {"rtol": 1e-6, "atol": 1e-6}
    chosen = {} if gradient == "reversible" else {"solver": solver, **steps}
    field, plain = Energy(way), Energy("marked")
    value = loss(solved(field, gradient, per_sample, ts=(0.0, 0.4), **chosen).ys)
    value.backward()
    expected = loss(solved(plain, "backprop", ts=(0.0, 0.4), rtol=1e-9, atol=1e-9).ys)
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-3)
    assert relative(field.net[0].weight.grad, plain.net[0].weight.grad) < 2e-3
    with torch.no_grad():
        assert loss(solved(field, gradient, per_sample, ts=(0.0, 0.4), **chosen).ys).item() == value.item()


IN_PLACE = {
    "relu_": lambda t, y: -relu_(y),
    "add_": lambda t, y: y.mul_(-0.5),
    "index": lambda t, y: y.__setitem__((..., 0), 0.0) or -y,
}


SOLVERS = {s: info for s, info in noderun.SOLVERS.items() if not info.symplectic}
PLACES = [
    *((s, "no_grad", False) for s in SOLVERS),
    *((s, g, False) for s, g in pairs() if s in SOLVERS),
    *(
        (s, g, True)
        for s in ("tsit5", "rk4", "radau5", "kvaerno3", "rodas4")
        for g in ("no_grad", "backprop", *SAMPLES)
    ),
]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(list(IN_PLACE)), st.sampled_from(PLACES))
def test_f_that_works_in_place_is_refused_and_y0_stays(how, place):
    solver, gradient, per_sample = place
    y0, steps = Y0.clone(), {"rtol": 1e-3} if SOLVERS[solver].adaptive else {"dt": 0.1}
    recording = gradient != "no_grad"
    with torch.set_grad_enabled(recording), pytest.raises(ValueError, match="changes y in place"):
        options = {"gradient": gradient} if recording else {}
        noderun.solve(IN_PLACE[how], y0, [0.0, 1.0], solver=solver, per_sample=per_sample, **options, **steps)
    assert torch.equal(y0, Y0)


def test_rows_of_a_closure_under_per_sample_are_explained():
    rate = torch.tensor([[0.1], [5.0], [40.0]], dtype=F64)
    with pytest.raises(ValueError, match="samples that are still under way.*args=.*compact=False"):
        solved(lambda t, y: -rate * y, "checkpointed", per_sample=True)
    kept = solved(lambda t, y: -rate * y, "checkpointed", per_sample=True, compact=False).ys[-1]
    torch.testing.assert_close(kept, Y0 * torch.exp(-rate), rtol=1e-6, atol=1e-8)
