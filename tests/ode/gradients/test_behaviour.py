"""What surrounds a solve: modules, closures, autocast, checkpointing, accumulation, noise, a second derivative."""

import copy
import gc
import weakref

import pytest
import torch
from gradient_problems import F64, Field, gradients, loss, relative
from torch import nn
from torch.utils.checkpoint import checkpoint

import noderun

ALL = list(noderun.GRADIENTS)
AGAIN = [g for g in ALL if g not in ("backprop", "forward")]  # those that call f in the backward pass
Y0 = torch.tensor([[0.7, -0.4]], dtype=F64)
SPAN = torch.tensor([0.0, 0.5, 1.0], dtype=F64)
TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def settings(gradient):
    return {"gradient": gradient, "solver": "reversible_heun" if gradient == "reversible" else "dopri5"} | (
        {"dt": 0.01} if gradient == "reversible" else TIGHT
    )


def expected(gradient, field, y0=Y0):
    options = settings(gradient) | {"gradient": "backprop"}
    ys = noderun.solve(field, y0, SPAN, **options).ys
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss(ys), list(field.parameters()))])


@pytest.mark.parametrize("gradient", ALL)
def test_a_functional_call_gives_the_parameters_it_was_called_with(gradient):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.field = Field()

        def forward(self, y0):
            return loss(noderun.solve(self.field, y0, SPAN, **settings(gradient)).ys)

    model = Model()
    swapped = {name: (1.3 * p).detach().requires_grad_() for name, p in model.named_parameters()}
    torch.func.functional_call(model, swapped, (Y0,)).backward()
    other = Field()
    other.load_state_dict({name.removeprefix("field."): p.detach() for name, p in swapped.items()})
    computed = torch.cat([p.grad.reshape(-1) for p in swapped.values()])
    assert relative(computed, expected(gradient, other)) < 1e-6
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("gradient", ALL)
def test_closures_declare_their_parameters_or_are_refused(gradient):
    w = torch.tensor(0.6, dtype=F64, requires_grad=True)

    def f(t, y):
        return w * torch.sin(y)

    noderun.solve(f, Y0, SPAN, params=(w,), **settings(gradient)).ys.sum().backward()
    assert w.grad is not None
    if gradient != "backprop":
        with pytest.raises(ValueError, match="name them with params="):
            noderun.solve(f, Y0, SPAN, **settings(gradient))


@pytest.mark.parametrize("gradient", ALL)
def test_one_field_in_two_solves_of_one_graph_with_a_shared_parameter(gradient):
    def twice(how, field):
        options = settings(gradient) | {"gradient": how}
        middle = noderun.solve(field, Y0, SPAN, **options).ys[-1]
        return loss(noderun.solve(field, middle, SPAN, **options).ys) + loss(middle)

    field = Field()
    field.bias = nn.Parameter(field.bias.detach())
    field.alias = field.bias  # the same parameter under two names
    grads = [torch.autograd.grad(twice(how, field), list(field.parameters())) for how in (gradient, "backprop")]
    for one, other in zip(*grads, strict=True):
        assert relative(one, other) < 1e-6


@pytest.mark.parametrize("gradient", [g for g in ALL if g != "forward"])
def test_nested_solves(gradient):
    solver = {"solver": "reversible_heun" if gradient == "reversible" else "rk4", "dt": 0.05}

    class Outer(nn.Module):
        def __init__(self, how):
            super().__init__()
            self.inner, self.how = Field(), how

        def forward(self, t, y):
            return noderun.solve(self.inner, y, [0.0, 0.1], gradient=self.how, **solver).ys[-1] - y

    def grad(how):
        outer = Outer(how)
        ys = noderun.solve(outer, Y0, SPAN, gradient=how, **solver).ys
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss(ys), list(outer.parameters()))])

    # the adjoints are solves of their own, by rk4 at this dt
    assert relative(grad(gradient), grad("backprop")) < (1e-10 if noderun.GRADIENTS[gradient].exact else 1e-6)


class Counted(torch.autograd.Function):
    calls = 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        Counted.calls += 1
        return g


@pytest.mark.parametrize("gradient", ALL)
def test_frozen_parameters_cost_no_vjp(gradient):
    class Partly(Field):
        def forward(self, t, y):
            return super().forward(t, y) * Counted.apply(self.scale)

    field = Partly()
    field.scale = nn.Parameter(torch.ones(2, dtype=F64), requires_grad=False)
    field.register_parameter("scale", field.scale)
    Counted.calls = 0
    noderun.solve(field, Y0, SPAN, **settings(gradient)).ys.sum().backward()
    assert Counted.calls == 0
    assert field.scale.grad is None and field.weight.grad is not None


@pytest.mark.parametrize("gradient", ["backprop", *AGAIN])
def test_the_backward_pass_runs_in_the_forwards_autocast_state(gradient):
    seen = set()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, t, y):
            seen.add((torch.is_autocast_enabled("cpu"), self.linear(y).dtype))
            return torch.tanh(self.linear(y))

    torch.manual_seed(0)
    net, y0 = Net(), torch.randn(3, 4, requires_grad=True)
    solver = "reversible_heun" if gradient == "reversible" else "rk4"
    for outside in (False, True):  # forward inside and backward outside, then the other way round
        seen.clear()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not outside):
            ys = noderun.solve(net, y0, [0.0, 1.0], solver=solver, gradient=gradient, dt=0.1).ys
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=outside):
            ys[-1].sum().backward()
        assert ys.dtype == torch.float32
        assert seen == ({(False, torch.float32)} if outside else {(True, torch.bfloat16)})
    assert net.linear.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("gradient", ALL)
@pytest.mark.parametrize("reentrant", [False, True])
def test_inside_a_checkpoint_of_torch(gradient, reentrant):
    field, y0 = Field(), Y0.clone().requires_grad_()

    def run(y):
        return loss(noderun.solve(field, y, SPAN, **settings(gradient)).ys)

    plain = torch.autograd.grad(run(y0), (y0, *field.parameters()))
    checkpoint(run, y0, use_reentrant=reentrant).backward()
    for one, p in zip(plain, (y0, *field.parameters()), strict=True):
        assert torch.allclose(one, p.grad, rtol=1e-12)


@pytest.mark.parametrize("gradient", ALL)
def test_scaling_accumulation_and_a_retained_graph(gradient):
    field = Field()
    value = loss(noderun.solve(field, Y0, SPAN, **settings(gradient)).ys)
    (value * 1024).backward(retain_graph=True)
    once = field.weight.grad.clone()
    (value * 1024).backward()
    assert torch.equal(field.weight.grad, 2 * once)
    assert relative(once / 1024, expected(gradient, copy.deepcopy(field))[:4].view(2, 2)) < 1e-6
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()


def test_backprop_differentiates_twice():
    field = Field()

    def penalty(weight):
        ys = noderun.solve(
            lambda t, y: torch.tanh(y @ weight.T), Y0, SPAN, solver="rk4", dt=0.25, gradient="backprop"
        ).ys
        (g,) = torch.autograd.grad(loss(ys), weight, create_graph=True)
        return (g * g).sum()

    assert torch.autograd.gradcheck(penalty, field.weight.detach().clone().requires_grad_())


@pytest.mark.parametrize("gradient", [g for g in ALL if g != "backprop"])
def test_the_others_say_that_they_differentiate_once(gradient):
    value = loss(noderun.solve(Field(), Y0.clone().requires_grad_(), SPAN, **settings(gradient)).ys)
    with pytest.raises(RuntimeError, match="use gradient='backprop' for more"):
        value.backward(create_graph=True)


@pytest.mark.parametrize("gradient", AGAIN)
@pytest.mark.parametrize("source", ["dropout", "generator"])
def test_noise_that_is_drawn_at_every_call_is_refused(gradient, source):
    generator = torch.Generator().manual_seed(0)

    class Noisy(Field):
        def forward(self, t, y):
            if source == "dropout":
                return super().forward(t, nn.functional.dropout(y.repeat(1, 8), 0.5).mean(1, keepdim=True) + y)
            return super().forward(t, y) + 0.01 * torch.randn(y.shape, dtype=y.dtype, generator=generator)

    torch.manual_seed(0)
    solver = "reversible_heun" if gradient == "reversible" else "rk4"
    sol = noderun.solve(Noisy(), Y0, SPAN, solver=solver, dt=0.1, gradient=gradient)
    with pytest.raises(RuntimeError, match="f is stochastic.*in args="):
        sol.ys.sum().backward()


def test_what_newton_leaves_open_where_a_state_vanishes_is_no_noise():
    w = torch.full((3, 3), 0.1, dtype=F64, requires_grad=True)

    def f(t, y):
        return torch.tanh(y @ w) - 20 * torch.cos(t) ** 2 * y

    y0 = torch.linspace(0.5, 1, 6, dtype=F64).view(2, 3)
    for solver in ("implicit_midpoint", "kvaerno3"):
        sol = noderun.solve(f, y0, [0.0, 3.0], solver=solver, dt=0.1, params=(w,))
        sol.ys[-1].sum().backward()
        assert w.grad.isfinite().all()


@pytest.mark.parametrize("gradient", ALL)
def test_noise_that_is_fixed_for_one_solve_is_not(gradient):
    def f(t, y, noise):
        return torch.tanh(y) * noise

    noise = torch.randn(1, 2, dtype=F64, requires_grad=True)
    noderun.solve(f, Y0, SPAN, args=(noise,), **settings(gradient)).ys.sum().backward()
    assert noise.grad is not None


@pytest.mark.parametrize("gradient", AGAIN)
def test_parameters_changed_between_forward_and_backward_are_noticed(gradient):
    field = Field()
    value = loss(noderun.solve(field, Y0, SPAN, **settings(gradient)).ys)
    with torch.no_grad():
        field.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_counts_of_the_backward_pass():
    for gradient in ALL:
        stats = gradients("reversible_heun" if gradient == "reversible" else "dopri5", gradient, rtol=1e-4, atol=1e-4)[
            1
        ].stats
        assert (stats.nfe_backward is None) == (gradient in ("backprop", "forward"))
        assert (stats.accepted_backward is None) == noderun.GRADIENTS[gradient].exact


@pytest.mark.parametrize("gradient", ALL)
@pytest.mark.parametrize("kept", [lambda sol: sol, lambda sol: sol.ys], ids=["solution", "ys"])
def test_a_module_that_keeps_its_solution_is_freed(gradient, kept):
    field = Field()
    field.last = kept(noderun.solve(field, Y0, SPAN, **settings(gradient)))
    alive = weakref.ref(field)
    del field
    gc.collect()
    assert alive() is None
