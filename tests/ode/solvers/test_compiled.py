"""Compiled steps: the numbers of the eager ones, one compilation, and one warning where there can be none."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import noderun
from noderun.ode.solvers import METHODS, SOLVERS, configure_method
from noderun.ode.solvers.compiled.runge_kutta import graph_of
from noderun.ode.solvers.field import Autocast, VectorField
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.state import Layout

EXPLICIT = [name for name, method in METHODS.items() if isinstance(method, ExplicitRungeKutta)]
TS = [0.0, 0.3, 0.31, 2.0]


class Net(nn.Module):
    def __init__(self, dtype=torch.float64):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a, self.b = (nn.Parameter(torch.randn(3, 3, generator=generator, dtype=dtype)) for _ in range(2))

    def forward(self, t, y):
        return torch.tanh(y @ self.a + t) @ self.b


def start(dtype=torch.float64):
    return torch.linspace(-1, 1, 12, dtype=dtype).reshape(4, 3)


def solve(f, y0=None, ts=TS, **options):
    y0 = start() if y0 is None else y0
    with torch.set_grad_enabled("gradient" in options):
        return noderun.solve(f, y0, ts, **{"rtol": 1e-6, "atol": 1e-6, **options})


def graph(f, y0, solver="dopri5", adjoint=False):
    """The graphs of f or of its adjoint, None where it has none."""
    field = VectorField(f, Layout.of(y0), (), Autocast("cpu"))
    return graph_of(configure_method(METHODS[solver], compile=True), field, y0.reshape(-1), adjoint)


def gradients(f, **options):
    y0 = start().requires_grad_()
    sol = solve(f, y0, **options)
    return torch.autograd.grad(sol.ys.square().sum(), (y0, *f.parameters())), sol.stats


def test_compiled_solves_are_the_eager_ones_to_round_off_and_compile_once():
    f = Net()
    for options in ({"rtol": 1e-4}, {"rtol": 1e-8, "atol": 1e-9}, {"ts": TS[::-1]}, {"max_step": 0.1}):
        plain, fast = solve(f, **options), solve(f, **options, compile=True)
        assert fast.stats == plain.stats
        torch.testing.assert_close(fast.ys, plain.ys, rtol=1e-11, atol=1e-12)
    assert graph(f, start()).compilations == 1  # many steps, with the choice of the first step size
    for options in ({"max_step": 0.01}, {"first_step": 1.0, "jump_ts": [0.7, 0.9]}, {"dense": True}):
        plain, fast = solve(f, **options), solve(f, **options, compile=True)
        assert fast.stats == plain.stats
        torch.testing.assert_close(fast.ys, plain.ys, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(fast.interpolate(1.1), plain.interpolate(1.1), rtol=1e-11, atol=1e-12)
    shifted = torch.cat([start().reshape(-1), torch.zeros(1, dtype=torch.float64)])[1:].reshape(4, 3)
    for options in ({}, {"first_step": 0.1}):  # a state that begins in the middle of a vector's register
        torch.testing.assert_close(solve(f, shifted, **options, compile=True).ys, solve(f, shifted, **options).ys)
    assert graph(f, start()).compilations == 3  # and from a step size that is known, with and without f there


class Exploding(nn.Module):
    """y' = y^2 from 1 goes to infinity at t = 1, where the error of every step is NaN."""

    def forward(self, t, y):
        return y * y


EXPLODING = Exploding()


@pytest.mark.parametrize(
    "options",
    [{"ts": [0.0, 2.0]}, {"ts": [0.0, 0.9], "max_steps": 5}, {"ts": [0.0, 2.0], "min_step": 0.1, "max_steps": 500}],
    ids=["underflow", "too many steps", "past the pole"],
)
def test_a_compiled_solve_fails_where_and_as_the_eager_one(options):
    y0 = torch.ones(1, dtype=torch.float64)
    plain, fast = (solve(EXPLODING, y0, solver="bosh3", **options, compile=c, throw=False) for c in (False, True))
    assert fast.status == plain.status != "done"
    assert (fast.stats.accepted, fast.stats.rejected) == (plain.stats.accepted, plain.stats.rejected)
    torch.testing.assert_close(fast.ys, plain.ys, rtol=1e-9, atol=0, equal_nan=True)


def test_a_gradient_goes_back_over_compiled_steps():
    f = Net()
    limited = {"gradient_options": {"checkpoints": 3}}
    for options in ({}, {"max_step": 0.01}, limited, {"ts": [0.0, 2.0]}, {"ts": [0.0, 2.0], "max_step": 0.01}):
        both = (gradients(f, gradient="checkpointed", compile=c, **options) for c in (False, True))
        (plain, stats), (fast, counted) = both
        assert (counted.nfe_forward, counted.accepted) == (stats.nfe_forward, stats.accepted)
        inside = sum(t not in (0.0, 2.0) for t in options.get("ts", TS))  # at most a call more for each
        assert stats.nfe_backward <= counted.nfe_backward <= stats.nfe_backward + inside
        torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-11)
    # Steps from an unknown and a known step size, and steps pulled back, each with and without outputs inside them;
    # and one step alone
    assert graph(f, start()).compilations == 7


def test_a_compiled_adjoint_walks_along_its_own_field():
    f = Net()
    (plain, stats), (fast, counted) = (gradients(f, gradient="adjoint", compile=c) for c in (False, True))
    assert counted == stats
    torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-10)
    assert graph(f, start(), adjoint=True).compilations == 2  # choosing the first step size; after a jump


def test_steps_go_one_by_one_where_the_loop_refuses_f(monkeypatch):
    def refuse(*args, **options):
        raise RuntimeError("no loops today")

    monkeypatch.setattr(torch, "while_loop", refuse)
    f = Net()
    with pytest.warns(UserWarning, match="one by one") as told:
        fast = solve(f, compile=True)
    assert len(told) == 1
    torch.testing.assert_close(fast.ys, solve(f).ys, rtol=1e-11, atol=1e-12)
    with pytest.warns(UserWarning, match="the adjoint's loop was refused"):
        fast = gradients(f, gradient="adjoint", compile=True)[0]
    torch.testing.assert_close(fast, gradients(f, gradient="adjoint")[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("rows", [1, 400], ids=["a row times a matrix", "tanh of 1200 numbers"])
def test_products_and_functions_that_are_lowered_otherwise_are_the_same(rows):
    f, y0 = Net(), torch.linspace(-1, 1, 3 * rows, dtype=torch.float64).reshape(rows, 3)
    plain, fast = (solve(f, y0, [0.0, 2.0], compile=c) for c in (False, True))
    assert fast.stats == plain.stats and graph(f, y0).compilations == 1
    torch.testing.assert_close(fast.ys, plain.ys, rtol=1e-11, atol=1e-12)


def test_a_compiled_gradient_reaches_what_no_module_names(monkeypatch):
    monkeypatch.setattr("noderun.ode.solvers.compiled.graph.code_of", lambda module, inputs, options, table: module)

    def scaled(t, y, scale):
        return torch.sin(t) * torch.tanh(scale * y)

    found = []
    for compile in (False, True):
        scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
        ys = solve(scaled, gradient="checkpointed", args=(scale,), compile=compile).ys
        found.append(torch.autograd.grad(ys.square().sum(), scale)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-11)


class Branching(Net):
    def forward(self, t, y):
        return super().forward(t, y) if y.sum() > -1e9 else y


class Dropping(Net):
    def forward(self, t, y):
        return super().forward(t, nn.functional.dropout(y, 0.5))


class Counting(Net):
    calls = 0

    def forward(self, t, y):
        self.calls += 1
        return super().forward(t, y)


class Normalizing(Net):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3).double()

    def forward(self, t, y):
        return super().forward(t, self.norm(y))


@pytest.mark.parametrize(
    ("f", "why"),
    [
        (Branching(), "[Dd]ata-dependent"),
        (Dropping(), "draws random numbers"),
        (Normalizing(), "writes to its buffers"),
        (lambda t, y: 1j * y, "complex"),
    ],
)
def test_an_f_that_cannot_be_compiled_is_solved_as_ever_with_one_warning(f, why):
    y0 = start().to(torch.complex128) if why == "complex" else start()

    def run(**options):
        torch.manual_seed(0)
        for buffer in f.buffers() if isinstance(f, nn.Module) else ():
            buffer.zero_()
        return solve(f, y0, dt=0.1, **options).ys

    with pytest.warns(UserWarning, match=why) as told:
        fast = run(compile=True)
    assert len(told) == 1
    assert torch.equal(fast, run()) and torch.equal(run(compile=True), run())


def test_without_a_compiler_there_is_one_warning(monkeypatch):
    def missing(*args, **options):
        raise RuntimeError("no C++ compiler was found")

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", missing)
    f = Net()
    with pytest.warns(UserWarning, match="no C\\+\\+ compiler") as told:
        fast = solve(f, compile=True)
    assert len(told) == 1
    assert torch.equal(fast.ys, solve(f).ys)


def test_each_f_and_shape_has_graphs_of_its_own_however_many_there_are(monkeypatch):
    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", lambda module, inputs, **options: module.forward)
    solved = [Net() for _ in range(10)]  # torch.compile gives up on code that it compiled 8 times
    for f in solved:
        solve(f, solver="euler", dt=1.0, compile=True)
    solve(solved[0], start()[:1], solver="euler", dt=1.0, compile=True)
    assert [graph(f, start(), "euler").compilations for f in solved] == [1] * 10
    assert graph(solved[0], start()[:1], "euler").compilations == 1


def test_what_f_itself_raises_reaches_the_caller():
    def wrong(t, y):
        return y[:2]

    with warnings.catch_warnings(), pytest.raises(ValueError, match="f returned shape"):
        warnings.simplefilter("ignore")
        solve(wrong, compile=True)


def test_methods_and_paths_without_compiled_steps_refuse():
    for name in ("radau5", "bdf", "adams", "leapfrog"):
        with pytest.raises(ValueError, match="no option 'compile'"):
            solve(Net(), solver=name, compile=True, dt=0.1 if SOLVERS[name].fixed_step else None)
    with pytest.raises(ValueError, match="per_sample"):
        solve(Net(), per_sample=True, compile=True)


def test_a_solve_whose_operations_are_watched_is_eager_and_spoils_nothing():
    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    f = Net()
    with Watching():
        watched = solve(f, compile=True)
    assert torch.equal(watched.ys, solve(f).ys) and graph(f, start()).compilations == 0


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:compile=True")
def test_an_f_with_a_state_of_its_own_gives_the_same_solution():
    """Some compilers refuse it, with a warning, some make a graph of it: what it counts is not NFE then."""
    f = Counting()
    fast, plain = solve(f, compile=True), solve(f)
    assert fast.stats == plain.stats
    torch.testing.assert_close(fast.ys, plain.ys, rtol=1e-11, atol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize(
    ("solver", "dt"), [(name, dt) for name in EXPLICIT for dt in (None, 0.1) if dt or SOLVERS[name].adaptive]
)
def test_every_explicit_method_compiled(solver, dt):
    f = Net()
    plain, fast = (solve(f, solver=solver, dt=dt, compile=c) for c in (False, True))
    assert fast.stats == plain.stats
    torch.testing.assert_close(fast.ys, plain.ys, rtol=1e-10, atol=1e-11)


@pytest.mark.long
@pytest.mark.parametrize("gradient", ["backprop", "symplectic", "adjoint", "interpolated"])
def test_every_gradient_over_compiled_steps(gradient):
    f = Net()
    (plain, stats), (fast, counted) = (gradients(f, gradient=gradient, compile=c) for c in (False, True))
    assert counted == stats
    torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-10)


@pytest.mark.long
def test_nested_states_tolerances_by_component_events_and_dense_output_compiled():
    def f(t, state):
        return {"q": state["p"], "p": -torch.sin(state["q"])}

    y0 = {"q": torch.ones(2, dtype=torch.float64), "p": torch.zeros(2, dtype=torch.float64)}
    rtol = {"q": torch.full((2,), 1e-6, dtype=torch.float64), "p": torch.full((2,), 1e-5, dtype=torch.float64)}
    event = noderun.Event(lambda t, state: state["q"][0], terminal=False)
    options = dict(rtol=rtol, events=event, dense=True, norm="items")
    plain, fast = (solve(f, y0, **options, compile=c) for c in (False, True))
    for key in y0:
        torch.testing.assert_close(fast.ys[key], plain.ys[key], rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(fast.events[0].ts, plain.events[0].ts, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(fast.interpolate(1.1)["q"], plain.interpolate(1.1)["q"], rtol=1e-10, atol=1e-11)


@pytest.mark.long
def test_half_precision_is_rounded_as_in_an_eager_solve_and_other_modes_compile_anew():
    f, y0 = Net(torch.float32), start(torch.float32)
    # In bfloat16 a difference of round-off in float32 may tip a rounding, which moves one value by its eps of 8e-3;
    # left unrounded on the way, as the compiler would have it, ys differ by 3e-3.
    autocast = torch.autocast("cpu", dtype=torch.bfloat16)
    for mode, atol in ((torch.inference_mode(), 1e-6), (torch.no_grad(), 1e-6), (autocast, 1e-4)):
        with mode:
            plain, fast = (solve(f, y0, dt=0.1, compile=c) for c in (False, True))
        assert fast.stats == plain.stats
        torch.testing.assert_close(fast.ys, plain.ys, rtol=1e-6, atol=atol)


@pytest.mark.long
def test_backward_through_compiled_steps_twice_and_never_of_itself():
    y0 = start().requires_grad_()
    loss = solve(Net(), y0, gradient="backprop", compile=True).ys.square().sum()
    first, again = (torch.autograd.grad(loss, y0, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, again)
    (g,) = torch.autograd.grad(loss, y0, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        torch.autograd.grad(g.square().sum(), y0)
