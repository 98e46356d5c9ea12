"""Events against analytic ones, their gradients against finite differences; jumps, limits, steps and dense output."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.special import ellipk
from torch.autograd import gradcheck

import noderun
from noderun import Event, solve

TIGHT = dict(rtol=1e-11, atol=1e-12)
MEDIUM = dict(rtol=1e-6, atol=1e-10)
GRADIENTS = ("backprop", "checkpointed", "adjoint")
G = 9.81


def fall(t, y):
    return torch.stack([y[1], -G + 0 * y[1]])


def pendulum(t, y):
    return torch.stack([y[1], -torch.sin(y[0])])


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_a_ball_bounces_when_it_should():
    height, speed, restitution = 10.0, 0.0, 0.9
    t, y, impact = 0.0, tensor(height, speed), 0.0
    for bounce in range(3):
        sol = solve(fall, y, [t, math.inf], events=Event(lambda t, y: y[0], direction=-1), **TIGHT)
        v = math.sqrt(2 * G * height) * restitution**bounce
        impact += v / G if bounce == 0 else 2 * v / G
        assert sol.status == "event"
        assert abs(sol.events[0].ts[0] - impact) < 1e-8
        torch.testing.assert_close(sol.events[0].ys[0], tensor(0.0, -v), atol=1e-8, rtol=0)
        t, y = sol.events[0].ts[0].item(), sol.events[0].ys[0] * tensor(0.0, -restitution)


@pytest.mark.parametrize("solver", sorted(n for n, i in noderun.SOLVERS.items() if i.adaptive and (i.order or 0) >= 5))
def test_a_pendulum_crosses_zero_every_half_period(solver):
    period = 4 * ellipk(math.sin(0.5) ** 2)
    events = [Event(lambda t, y: y[0], direction=d, terminal=False) for d in (0, 1, -1)]
    sol = solve(pendulum, tensor(1.0, 0.0), [0.0, 2.2 * period], solver=solver, events=events, **TIGHT)
    either, rising, falling = (e.ts for e in sol.events)
    expected = period * (torch.arange(4, dtype=torch.float64) / 2 + 0.25)
    torch.testing.assert_close(either, expected, atol=1e-8, rtol=0)
    torch.testing.assert_close(falling, expected[::2], atol=1e-8, rtol=0)
    torch.testing.assert_close(rising, expected[1::2], atol=1e-8, rtol=0)
    assert sol.status == "done" and torch.isfinite(sol.ys).all()


def test_backwards_in_time_and_a_float32_event():
    sol = solve(lambda t, y: y, torch.ones(1), [0.0, -3.0], events=Event(lambda t, y: y[0] - 0.5))
    assert abs(sol.events[0].ts[0] + math.log(2)) < 1e-4
    assert torch.isnan(sol.ys[1]).all()  # the solve did not go there


def test_a_terminal_event_ends_the_outputs_and_hides_later_events():
    events = [Event(lambda t, y: y[0] - 0.5), Event(lambda t, y: y[0] - 0.3, terminal=False)]
    sol = solve(lambda t, y: -y, tensor(1.0), [0.0, 0.5, 1.0], events=events, dt=0.25, solver="rk4", steps=True)
    torch.testing.assert_close(sol.ts, tensor(0.0, 0.25, 0.5, math.log(2)), atol=1e-4, rtol=0)
    assert len(sol.events[1].ts) == 0


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("what", ["time", "state"])
def test_gradients_of_an_event(gradient, what):
    def event(y0, length, level, t0):
        f = lambda t, y, length: torch.stack([y[1], -torch.sin(y[0]) / length])  # noqa: E731
        ts = torch.cat([t0, torch.full_like(t0, math.inf)])
        crossing = Event(lambda t, y: y[0] - level + 0.1 * t, direction=-1)
        sol = solve(f, y0, ts, events=crossing, args=(length,), gradient=gradient, **TIGHT)
        return sol.events[0].ts[0] if what == "time" else sol.events[0].ys[0]

    inputs = [tensor(1.0, 0.2), tensor(1.3).squeeze(), tensor(0.4).squeeze(), tensor(0.1)]
    assert gradcheck(event, [x.requires_grad_() for x in inputs], eps=1e-5, atol=1e-5)


@pytest.mark.parametrize("solver", ["dopri5", "bosh3", "tsit5"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_jump_is_stepped_to_and_each_side_sees_its_own_f(solver, reverse, dtype):
    seen = []

    def f(t, y):
        seen.append(t.item())
        return torch.where(t < 0.3, -1.0, 2.0) + 0 * y

    ts = [1.0, 0.0] if reverse else [0.0, 1.0]
    sol = solve(f, torch.zeros(1, dtype=dtype), ts, solver=solver, jump_ts=[0.3], steps=True)
    change = -0.3 + 2 * 0.7
    assert abs(sol.ys[-1] - (-change if reverse else change)) < (1e-6 if dtype == torch.float32 else 1e-13)
    assert sol.stats.rejected == 0
    assert (sol.ts - 0.3).abs().min() < 1e-7
    assert torch.tensor(0.3, dtype=dtype).item() not in seen


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_pass_through_a_jump(gradient):
    def end(y0, rate):
        f = lambda t, y, rate: torch.where(t < 0.5, -rate * y, y**2)  # noqa: E731
        return solve(f, y0, [0.0, 1.0], jump_ts=[0.5], args=(rate,), gradient=gradient, **TIGHT).ys[-1]

    assert gradcheck(end, [tensor(0.7, 0.4).requires_grad_(), tensor(0.8).requires_grad_()], atol=1e-6)


def test_limits_on_the_step():
    sol = solve(lambda t, y: -y, tensor(1.0), [0.0, 2.0], max_step=0.1, steps=True)
    assert sol.ts.diff().max() <= 0.1 + 1e-12
    sol = solve(lambda t, y: -50 * y, tensor(1.0), [0.0, 2.0], rtol=1e-12, min_step=0.05, steps=True)
    assert sol.ts.diff()[:-1].min() >= 0.025 and sol.stats.accepted <= 41


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_every_accepted_step(gradient):
    y0 = tensor(1.0, 0.5).requires_grad_()
    sol = solve(pendulum, y0, [0.0, 1.0, 5.0], gradient=gradient, steps=True, **TIGHT)
    assert len(sol.ts) == sol.stats.accepted + 1 + 1 and (sol.ts.diff() > 0).all()
    reference = solve(pendulum, y0, sol.ts.tolist(), gradient=gradient, **TIGHT)
    torch.testing.assert_close(sol.ys, reference.ys, atol=1e-8, rtol=0)
    cotangent = torch.linspace(0, 1, sol.ys.numel(), dtype=torch.float64).view_as(sol.ys)
    (g,) = torch.autograd.grad(sol.ys, y0, cotangent)
    (g_reference,) = torch.autograd.grad(reference.ys, y0, cotangent)
    torch.testing.assert_close(g, g_reference, atol=1e-6, rtol=1e-6)


PAIRS = ("leapfrog", "semi_implicit_euler", "yoshida4")  # on a state (q, p) only


@pytest.mark.parametrize("solver", sorted(n for n, i in noderun.SOLVERS.items() if i.fixed_step and n not in PAIRS))
@pytest.mark.parametrize("ts", [[0.0, 3.0], [3.0, 0.0]])
def test_dense_output_is_the_continuous_extension(solver, ts):
    times = torch.linspace(0.05, 2.95, 23, dtype=torch.float64)
    times = times if ts[0] == 0 else times.flip(0)
    options = dict(solver=solver, dt=0.25)
    dense = solve(pendulum, tensor(1.0, 0.2), ts, dense=True, **options)
    direct = solve(pendulum, tensor(1.0, 0.2), [ts[0], *times.tolist(), ts[1]], **options)
    torch.testing.assert_close(dense.interpolate(times), direct.ys[1:-1], atol=1e-12, rtol=0)
    torch.testing.assert_close(dense.interpolate(ts[1]), dense.ys[-1])
    with pytest.raises(ValueError, match="outside"):
        dense.interpolate(3.5)


def test_dense_output_is_differentiable():
    def inside(y0):
        return solve(pendulum, y0, [0.0, 2.0], dense=True, **TIGHT).interpolate(torch.tensor([0.3, 1.7]))

    assert gradcheck(inside, [tensor(1.0, 0.2).requires_grad_()])


def test_a_grid_of_steps():
    grid = [0.0, 0.1, 0.4, 1.0]
    sol = solve(lambda t, y: y, tensor(1.0), [0.0, 1.0], solver="euler", dt=grid)
    torch.testing.assert_close(sol.ys[-1], tensor(1.1 * 1.3 * 1.6))
    with pytest.raises(ValueError, match="from the first to the last"):
        solve(lambda t, y: y, tensor(1.0), [0.0, 1.0], solver="euler", dt=grid[:-1])


def test_events_agree_with_scipy_on_a_time_dependent_one():
    g = lambda t, y: y[0] - 0.2 * t  # noqa: E731
    ours = solve(pendulum, tensor(1.0, 0.2), [0.0, 20.0], events=Event(g, terminal=False), **TIGHT)
    f = lambda t, y: [y[1], -math.sin(y[0])]  # noqa: E731
    theirs = solve_ivp(f, (0, 20), [1.0, 0.2], events=g, method="DOP853", rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(ours.events[0].ts, torch.as_tensor(theirs.t_events[0]), atol=1e-8, rtol=0)


def alone_or_a_batch(per_sample, *values):
    y0 = tensor(*values)
    return torch.stack([y0, y0]) if per_sample else y0


def times(sol, which=0):
    """When an event happened; to the first of several samples."""
    ts = sol.events[which].ts
    return ts if ts.dim() == 1 else ts[:, 0]


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("solver", ["dopri5", "dopri8", "bosh3", "kvaerno5", "rodas4", "rk4"])
def test_two_crossings_within_one_step_are_both_found(solver, per_sample):
    crossing = Event(lambda t, y: y[..., 0] - 0.6, terminal=False)
    f = lambda t, y: torch.cos(t) + 0 * y  # noqa: E731
    options = dict(dt=3.0) if solver == "rk4" else dict(first_step=3.0, rtol=1.0, atol=1.0)
    y0 = alone_or_a_batch(per_sample, 0.0)
    sol = solve(f, y0, [0.0, 3.0], solver=solver, events=crossing, per_sample=per_sample, **options)
    assert (torch.as_tensor(sol.stats.accepted) == 1).all() and len(sol.events[0].ts) == 2
    dense = solve(f, y0, [0.0, *times(sol).tolist(), 3.0], solver=solver, per_sample=per_sample, **options)
    torch.testing.assert_close(dense.ys[1:3], torch.full_like(dense.ys[1:3], 0.6), rtol=0, atol=1e-9)
    first = solve(f, y0, [0.0, 3.0], solver=solver, events=Event(crossing.fn), per_sample=per_sample, **options)
    torch.testing.assert_close(times(first), times(sol)[:1])


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("throw", [False, True])
def test_an_event_without_a_value_is_named(per_sample, throw):
    def height(t, y):
        return torch.log(0.5 - t.reshape(()) if not per_sample else 0.5 - t[:, 0]) + 10 * y[..., 0]

    options = dict(events=[Event(lambda t, y: y[..., 0] + 1), Event(height)], per_sample=per_sample, max_step=0.1)
    y0 = alone_or_a_batch(per_sample, 1.0)
    if throw:
        with pytest.raises(noderun.NonFiniteDynamics, match=r"the event height, number 1, is NaN \(.*t = 0\.[56]"):
            solve(lambda t, y: 0 * y, y0, [0.0, 1.0], **options)
    else:
        sol = solve(lambda t, y: 0 * y, y0, [0.0, 1.0], throw=False, **options)
        assert sol.status == (["nonfinite"] * 2 if per_sample else "nonfinite") and sol.ys[-1].isnan().all()


@pytest.mark.parametrize("per_sample", [False, True])
def test_an_event_may_be_without_a_value_where_a_terminal_one_hides_it(per_sample):
    events = [Event(lambda t, y: y[..., 0]), Event(lambda t, y: y[..., 0].sqrt() - 0.5, terminal=False)]
    y0 = alone_or_a_batch(per_sample, 1.0)
    sol = solve(lambda t, y: -1 + 0 * y, y0, [0.0, 2.0], events=events, first_step=2.0, per_sample=per_sample)
    torch.testing.assert_close(times(sol), tensor(1.0))
    torch.testing.assert_close(times(sol, 1), tensor(0.75))


@pytest.mark.parametrize("per_sample", [False, True])
def test_a_ball_thrown_from_the_ground_comes_back_to_it(per_sample):
    f = lambda t, y: torch.stack([y[..., 1], -G + 0 * y[..., 1]], -1)  # noqa: E731
    ground, y0 = Event(lambda t, y: y[..., 0]), alone_or_a_batch(per_sample, 0.0, 5.0)
    sol = solve(f, y0, [0.0, math.inf], events=ground, per_sample=per_sample)
    torch.testing.assert_close(times(sol), tensor(2 * 5.0 / G))
    assert noderun.odeint_event(fall, tensor(0.0, 5.0), torch.tensor(0.0), event_fn=lambda t, y: y[0])[0] == 0


KINDS = {
    "a truth value": lambda t, y: y[..., 0] < 1e-3,
    "its opposite": lambda t, y: y[..., 0] > 1e-3,
    "a sign": lambda t, y: torch.sign(y[..., 0] - 1e-3),
    "an integer": lambda t, y: (y[..., 0] < 1e-3).int() * 2 - 1,
    "without a graph": lambda t, y: y[..., 0].detach() - 1e-3,
}
NUMBERS = {"a Python bool": lambda t, y: bool(y[0] < 1e-3), "a Python float": lambda t, y: y[0].item() - 1e-3}


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("kind", [*KINDS, *NUMBERS])
def test_every_kind_of_number_is_an_event(kind, gradient):
    y0 = tensor(1.0).requires_grad_()
    event_fn = {**KINDS, **NUMBERS}[kind]
    sol = solve(lambda t, y: -y, y0, [0.0, math.inf], events=Event(event_fn), gradient=gradient, **MEDIUM)
    torch.testing.assert_close(times(sol), tensor(math.log(1e3)), rtol=1e-5, atol=0)
    end = sol.events[0].ys.sum() + (0 * y0 + sol.events[0].ts).sum()  # the time is a constant: nothing has a slope
    torch.testing.assert_close(torch.autograd.grad(end, y0)[0], tensor(1e-3), rtol=1e-4, atol=0)
    if kind in KINDS:
        batch = solve(lambda t, y: -y, y0[None], [0.0, math.inf], events=Event(event_fn), per_sample=True, **MEDIUM)
        torch.testing.assert_close(times(batch), times(sol), rtol=1e-9, atol=0)


def test_a_truth_value_rises_where_it_becomes_true():
    events = [Event(lambda t, y: torch.sin(t) > 0.5, direction=d, terminal=False) for d in (1, -1)]
    sol = solve(lambda t, y: -y, tensor(1.0), [0.0, 6.0], events=events, max_step=0.5)
    torch.testing.assert_close(sol.events[0].ts, tensor(math.pi / 6))
    torch.testing.assert_close(sol.events[1].ts, tensor(5 * math.pi / 6))


@pytest.mark.parametrize("kind", [*KINDS, *NUMBERS])
@pytest.mark.parametrize("interface", ["odeint", "odeint_adjoint"])
def test_odeint_event_takes_every_kind_of_number(kind, interface):
    y0, event_fn = tensor(1.0).requires_grad_(), {**KINDS, **NUMBERS}[kind]
    options = dict(odeint_interface=getattr(noderun, interface), **MEDIUM)
    options |= dict(adjoint_params=()) if interface == "odeint_adjoint" else {}
    t, y = noderun.odeint_event(lambda t, y: -y, y0, torch.tensor(0.0).double(), event_fn=event_fn, **options)
    torch.testing.assert_close(t, tensor(math.log(1e3))[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(torch.autograd.grad(y[-1].sum(), y0)[0], tensor(1e-3), rtol=1e-4, atol=0)
