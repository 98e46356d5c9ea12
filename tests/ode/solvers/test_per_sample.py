"""A batch whose samples step alone: against each of them solved alone, with outputs, events, failures and gradients."""

import math

import pytest
import torch
from sample_problems import decay, starts, tensor, van_der_pol
from torch.autograd import gradcheck

from noderun import Event, NonFiniteDynamics, StepLimit, StepUnderflow, solve

ADAPTIVE = ("dopri5", "tsit5", "bosh3", "dopri8", "fehlberg45", "dop853")
GRADIENTS = ("backprop", "checkpointed")  # exact for the steps that were made
EVERY_GRADIENT = (*GRADIENTS, "adjoint")


@pytest.mark.parametrize(
    ("solver", "controller"), [*((name, "I") for name in ADAPTIVE), ("dopri5", "PI"), ("dopri5", "PID")]
)
def test_each_sample_takes_the_steps_that_it_takes_alone(solver, controller):
    y0, options = starts(3), dict(solver=solver, rtol=1e-5, atol=1e-5, controller=controller)
    ts = [0.0, 1.0, 3.0]
    batch = solve(van_der_pol, y0, ts, per_sample=True, **options)
    for i, start in enumerate(y0):
        alone = solve(van_der_pol, start, ts, **options)
        assert abs(batch.stats.accepted[i] - alone.stats.accepted) <= 0.02 * alone.stats.accepted
        torch.testing.assert_close(batch.ys[:, i], alone.ys, rtol=1e-3, atol=1e-3)
    assert batch.status == ["done"] * 3
    assert batch.stats.nfe_forward.min() < batch.stats.nfe_forward.max()


@pytest.mark.long
def test_sixty_four_van_der_pol_oscillators():
    y0 = starts(64)
    batch = solve(van_der_pol, y0, [0.0, 50.0], per_sample=True, rtol=1e-5, atol=1e-5)
    for i, start in enumerate(y0):
        alone = solve(van_der_pol, start, [0.0, 50.0], rtol=1e-5, atol=1e-5)
        assert abs(batch.stats.accepted[i] - alone.stats.accepted) <= 0.02 * alone.stats.accepted


@pytest.mark.parametrize("solver", ["euler", "rk4", "rk4_38", "dopri5", "fehlberg45"])
def test_fixed_steps_equal_those_alone(solver):
    y0, ends = starts(3), tensor(0.31, 1.0, -0.5)
    ts = torch.stack([0 * ends, ends / 3, ends], dim=1)
    batch = solve(van_der_pol, y0, ts, per_sample=True, solver=solver, dt=0.01)
    for i, start in enumerate(y0):
        alone = solve(van_der_pol, start, ts[i], solver=solver, dt=0.01)
        torch.testing.assert_close(batch.ys[:, i], alone.ys, rtol=1e-12, atol=1e-12)
        assert batch.stats.accepted[i] == alone.stats.accepted


@pytest.mark.parametrize("solver", ["dopri5", "bosh3", "rk4", "radau5", "kvaerno5", "rodas4"])
def test_jumps_are_stepped_to_exactly(solver):
    jumps, rate = [0.25, 0.7, 1.1], tensor([1.0], [2.0], [0.5])
    options = dict(solver=solver, jump_ts=jumps, **(dict(dt=0.1) if solver == "rk4" else dict(rtol=1e-6, atol=1e-8)))
    ts, y0 = tensor([0.0, 0.7, 1.0], [1.5, 0.3, 0.2], [0.25, 0.4, 0.6]), starts(3)

    def f(t, y, rate):
        level = (t > jumps[0]) * 1.0 - (t > jumps[1]) * 3.0 + (t > jumps[2]) * 5.0
        return -rate * y + level

    sol = solve(f, y0, ts, per_sample=True, args=(rate,), **options)
    for i, start in enumerate(y0):
        alone = solve(f, start, ts[i], args=(rate[i],), **options)
        assert sol.stats.accepted[i] == alone.stats.accepted and sol.stats.rejected[i] == alone.stats.rejected
        torch.testing.assert_close(sol.ys[:, i], alone.ys, rtol=1e-9, atol=1e-9)


def test_steps_along_a_grid():
    grid, ts, y0 = [0.0, 0.1, 0.15, 0.4, 1.0], tensor([0.0, 0.3, 1.0], [1.0, 0.4, 0.0], [0.1, 0.2, 0.3]), starts(3)
    sol = solve(van_der_pol, y0, ts, per_sample=True, solver="rk4", dt=grid, args=(1.0,))
    for i, own in enumerate((grid, grid, [0.1, 0.15, 0.3])):
        alone = solve(van_der_pol, y0[i], ts[i], solver="rk4", dt=own, args=(1.0,))
        assert sol.stats.accepted[i] == alone.stats.accepted
        torch.testing.assert_close(sol.ys[:, i], alone.ys, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("solver", ["dopri5", "kvaerno5"])
def test_every_step_and_dense_output_are_those_of_each_sample_alone(solver, gradient):
    ts, y0 = tensor([0.0, 0.3, 1.0], [1.0, 0.4, -2.0], [0.1, 0.1, 0.1]), starts(3).requires_grad_()
    options = dict(solver=solver, gradient=gradient, args=(2.0,), rtol=1e-6, atol=1e-6, steps=True, dense=True)
    sol = solve(van_der_pol, y0, ts, per_sample=True, **options)
    at = tensor([0.0, 1.0, 0.1], [0.2, -0.3, 0.1], [1.0, -2.0, 0.1])
    between = sol.interpolate(at)
    assert between.shape == (3, 3, 2) and sol.interpolate(0.1).shape == (3, 2)
    torch.testing.assert_close(between[:, 2], y0[2].expand(3, 2))
    assert torch.isnan(sol.ts[1:, 2]).all() and torch.equal(sol.ys[0], y0)
    expected = []
    for i in range(2):
        alone = solve(van_der_pol, y0[i], ts[i], **options)
        n = len(alone.ts)
        torch.testing.assert_close(sol.ts[:n, i], alone.ts, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(sol.ys[:n, i], alone.ys, rtol=1e-9, atol=1e-9)
        assert torch.isnan(sol.ys[n:, i]).all()
        torch.testing.assert_close(between[:, i], alone.interpolate(at[:, i]), rtol=1e-9, atol=1e-9)
        expected.append(torch.autograd.grad(alone.interpolate(at[:, i]).sum(), y0)[0])
    (grad,) = torch.autograd.grad(between[:, :2].sum(), y0)
    torch.testing.assert_close(grad, sum(expected), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="sample 1 is known from t = 1 to -2"):
        sol.interpolate(tensor([0.5, 1.1, 0.1]).view(1, 3))


def test_times_of_their_own_in_both_directions_and_args():
    ts = tensor([0.0, 1.0, 2.0], [1.0, 0.5, -1.0], [0.3, 0.3, 0.3])
    y0, rate = tensor([1.0, 2.0], [0.5, -1.0], [3.0, 4.0]), tensor([0.5], [1.5], [2.5])
    seen = []

    def f(t, y, rate):
        assert t.shape == (len(y), 1) and len(rate) == len(y)
        seen.append(len(y))
        return decay(t, y, rate)

    sol = solve(f, y0, ts, per_sample=True, args=(rate,), rtol=1e-9, atol=1e-10)
    for i in range(2):
        alone = solve(decay, y0[i], ts[i], args=(rate[i],), rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(sol.ys[:, i], alone.ys, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(sol.ys[:, 2], y0[2].expand(3, 2))
    assert sol.stats.accepted[2] == 0 and min(seen) == 1

    kept = []
    whole = lambda t, y: kept.append(len(y)) or decay(t, y, rate)  # noqa: E731
    same = solve(whole, y0, ts, per_sample=True, compact=False, params=(rate,), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(same.ys, sol.ys)
    assert set(kept) == {3} and torch.equal(same.stats.accepted, sol.stats.accepted)


def test_nested_states_norms_and_tolerances_for_each_component():
    y0 = {"a": tensor([1.0], [2.0]), "b": tensor([0.1, 0.2], [0.3, 0.4])}
    f = lambda t, y: {"b": -y["b"], "a": 2 * torch.cos(3 * t) * y["a"]}  # noqa: E731
    exact = y0["a"] * math.exp(2 / 3 * math.sin(3))
    for norm in ("rms", "max", "items", lambda v: v.abs().max()):
        sol = solve(f, y0, [0.0, 1.0], per_sample=True, norm=norm, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(sol.ys["a"][-1], exact, rtol=1e-6, atol=0)
    tight = solve(f, y0, [0.0, 1.0], per_sample=True, rtol={"a": tensor(1e-9), "b": tensor(1e-2, 1e-2)}, atol=0.0)
    loose = solve(f, y0, [0.0, 1.0], per_sample=True, rtol=1e-2, atol=0.0)
    assert (tight.stats.accepted > loose.stats.accepted).all()


@pytest.mark.parametrize("gradient", EVERY_GRADIENT)
@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("fixed", [True, False])
def test_gradients(gradient, compact, fixed):
    weight, rate = tensor([0.3, -0.2], [0.1, 0.4]), tensor([0.5], [1.5], [2.5])
    ts = tensor([0.0, 0.9, 1.0], [1.0, 0.5, -0.3], [0.0, 2.0, 3.0])

    def ends(y0, weight, rate, ts):
        if compact:
            f, args = lambda t, y, rate, weight: torch.tanh(y @ weight) - rate * t * y, (rate, (weight,)[0])
        else:
            f, args = lambda t, y: torch.tanh(y @ weight) - rate * t * y, ()
        options = dict(solver="rk4", dt=0.05) if fixed else dict(rtol=1e-8, atol=1e-9)
        params = () if compact else (weight, rate)
        return solve(
            f, y0, ts, per_sample=True, args=args, params=params, gradient=gradient, compact=compact, **options
        ).ys

    inputs = [tensor([1.0, 2.0], [0.5, -1.0], [0.1, 0.4]), weight, rate, ts]
    assert gradcheck(ends, [x.requires_grad_() for x in inputs], atol=1e-3 if fixed else 1e-5, fast_mode=True)


def test_the_two_gradients_are_the_same_and_checkpointed_counts():
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()
    f = lambda t, y: net(y) * torch.cos(3 * t)  # noqa: E731
    results = {}
    for gradient in GRADIENTS:
        y0 = starts(6).requires_grad_()
        sol = solve(f, y0, [0.0, 0.7, 2.0], per_sample=True, gradient=gradient, params=net.parameters(), rtol=1e-4)
        results[gradient] = torch.autograd.grad((sol.ys**2).sum(), (y0, *net.parameters()))
        if gradient == "checkpointed":
            nfe, accepted = sol.stats.nfe_backward, sol.stats.accepted
            assert ((6 * accepted <= nfe) & (nfe <= 7 * accepted)).all()
    for a, b in zip(*results.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", ["tsit5", "radau5"])
def test_the_adjoint_takes_steps_of_each_sample_s_own_back(solver):
    weight, rate = tensor([0.3, -0.2], [0.1, 0.4]).requires_grad_(), tensor([0.5], [8.0], [2.5]).requires_grad_()
    ts, y0 = tensor([0.0, 0.7, 0.9], [1.5, 0.3, 0.2], [0.25, 0.4, 0.6]), starts(3).requires_grad_()

    def f(t, y, rate, weight):
        return torch.tanh(y @ weight) - rate * y + (t > 0.5) * 3.0

    common = dict(solver=solver, jump_ts=[0.5], rtol=1e-7, atol=1e-9, gradient_rtol=1e-6, gradient_atol=1e-8)
    sol = solve(f, y0, ts, per_sample=True, args=(rate, weight), gradient="adjoint", **common)
    exact = solve(f, y0, ts, per_sample=True, args=(rate, weight), gradient="backprop", **common)
    found, expected = (torch.autograd.grad((s.ys[1:] ** 2).sum(), (y0, rate, weight)) for s in (sol, exact))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert 0 < sol.stats.nfe_backward.min() < sol.stats.nfe_backward.max()


def test_gradients_that_a_closure_would_hide_are_refused():
    rate = tensor(0.5, 1.0).requires_grad_()
    for gradient in ("checkpointed", "adjoint"):
        with pytest.raises(ValueError, match="name them with params="):
            solve(lambda t, y: -rate * y, starts(3), [0.0, 1.0], per_sample=True, gradient=gradient)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_where_a_round_accepts_no_step(gradient):
    y0, options = starts(1).requires_grad_(), dict(gradient=gradient, rtol=1e-5, atol=1e-5)
    sol = solve(van_der_pol, y0, [0.0, 2.0], per_sample=True, **options)
    assert sol.stats.rejected > 0
    (found,) = torch.autograd.grad(sol.ys[-1].sum(), y0)
    (alone,) = torch.autograd.grad(solve(van_der_pol, y0[0], [0.0, 2.0], **options).ys[-1].sum(), y0)
    torch.testing.assert_close(found, alone, rtol=1e-6, atol=1e-6)


def test_backprop_is_twice_differentiable():
    def end(y0):
        return solve(van_der_pol, y0, [0.0, 0.5], per_sample=True, args=(1.0,), gradient="backprop", rtol=1e-8).ys[-1]

    assert torch.autograd.gradgradcheck(end, starts(2).requires_grad_(), atol=1e-4)


def test_events_of_each_sample():
    heights, g = tensor(1.0, 5.0, 20.0, 3.0), 9.81
    y0 = torch.stack([heights, torch.zeros_like(heights)], dim=1).requires_grad_()
    f = lambda t, y: torch.stack([y[:, 1], -g + 0 * y[:, 1]], dim=1)  # noqa: E731
    events = [Event(lambda t, y: y[:, 0], direction=-1), Event(lambda t, y: y[:, 1] + 3.0, terminal=False)]
    sol = solve(f, y0, [0.0, 1.5], per_sample=True, events=events, rtol=1e-10, atol=1e-10)
    fall = torch.sqrt(2 * heights / g)
    ground, speed = sol.events
    torch.testing.assert_close(ground.ts[0, [0, 1, 3]], fall[[0, 1, 3]], atol=1e-8, rtol=0)
    assert torch.isnan(ground.ts[0, 2]) and sol.status == ["event", "event", "done", "event"]
    torch.testing.assert_close(speed.ts[0], torch.full((4,), 3 / g, dtype=torch.float64), atol=1e-8, rtol=0)
    assert torch.isnan(sol.ys[1, 0]).all() and torch.isfinite(sol.ys[1, 2]).all()
    (grad,) = torch.autograd.grad(ground.ts[0, :2].sum(), y0, retain_graph=True)
    expected = torch.zeros(4, 2, dtype=torch.float64)
    expected[:2, 0] = 1 / (g * fall[:2])
    expected[:2, 1] = 1 / g  # t* = (v + sqrt(v^2 + 2 g h)) / g
    torch.testing.assert_close(grad, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("gradient", EVERY_GRADIENT)
@pytest.mark.parametrize("what", ["ts", "ys"])
def test_gradients_of_events(gradient, what):
    def event(y0, length):
        f = lambda t, y, length: torch.stack([y[:, 1], -torch.sin(y[:, 0]) / length], dim=1)  # noqa: E731
        swing = Event(lambda t, y: y[:, 0] - 0.1 * t.squeeze(1), terminal=False)
        options = dict(solver="dop853", rtol=1e-9, atol=1e-9)
        sol = solve(f, y0, [0.0, 6.0], per_sample=True, events=swing, args=(length,), gradient=gradient, **options)
        assert sol.events[0].ts.shape[0] == 2 and torch.isnan(sol.events[0].ts).any()
        return getattr(sol.events[0], what).nan_to_num()

    y0 = tensor([1.0, 0.2], [0.3, -0.1], [2.0, 0.0])
    assert gradcheck(event, [y0.requires_grad_(), tensor(1.0, 1.5, 2.0).requires_grad_()], atol=1e-4, fast_mode=True)


def failing(t, y):
    """Sample 1 meets a singularity, sample 2 a wall of NaN, sample 3 a NaN at once."""
    kind = y[:, 1:]
    rate = torch.where(kind == 1, y[:, :1] ** 2, -y[:, :1])
    wall = torch.where((kind == 2) & (t > 0.5), torch.nan, rate)
    slope = torch.where(kind == 3, torch.nan, wall)
    return torch.cat([slope, 0 * kind], dim=1)


@pytest.mark.parametrize("compact", [True, False])
def test_a_failed_sample_freezes_and_stops_no_other(compact):
    y0 = tensor([1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0], [2.0, 0.0])
    options = dict(per_sample=True, compact=compact, rtol=1e-6, atol=1e-8)
    with pytest.raises(StepUnderflow, match=r"sample 1, t = 1, .* 2 more samples failed") as caught:
        solve(failing, y0, [0.0, 0.4, 2.0], **options)
    sol = caught.value.solution
    assert caught.value.sample == 1 and caught.value.step == sol.stats.accepted[1]
    assert sol.status == ["done", "underflow", "nonfinite", "nonfinite", "done"]
    torch.testing.assert_close(sol.ys[2, [0, 4], 0], math.exp(-2.0) * tensor(1.0, 2.0), rtol=1e-5, atol=0)
    assert torch.isfinite(sol.ys[1, :3]).all() and torch.isnan(sol.ys[2, 1:4]).all()
    assert 0.4 < sol.stats.t[2] <= 0.5 and sol.stats.t[3] == 0
    same = solve(failing, y0, [0.0, 0.4, 2.0], throw=False, **options)
    torch.testing.assert_close(same.ys, sol.ys, equal_nan=True)


def test_the_step_limit_is_each_sample_s_own():
    y0 = tensor([0.1, 0.0], [2.0, 0.0])
    easy = solve(van_der_pol, y0[:1], [0.0, 0.2], per_sample=True, rtol=1e-5)
    ts = tensor([0.0, 0.2], [0.0, 30.0])
    with pytest.raises(StepLimit, match="sample 1"):
        solve(van_der_pol, y0, ts, per_sample=True, rtol=1e-5, max_steps=int(easy.stats.accepted) + 10)


@pytest.mark.parametrize(
    ("error", "f", "options", "where"),
    [
        (StepLimit, lambda t, y: -y, dict(max_steps=3, max_step=0.1), "max_steps = 3.*t = "),
        (
            StepLimit,
            lambda t, y: -y,
            dict(solver="rk4", dt=0.1, max_steps=3),
            r"max_steps = 3.*t = 0\.3, after 3 steps",
        ),
        (StepUnderflow, lambda t, y: y**2, {}, "t = 1, after"),
        (NonFiniteDynamics, lambda t, y: torch.where(t > 0.5, torch.nan, -y), {}, r"t = 0\.5, after"),
        (NonFiniteDynamics, lambda t, y: torch.where(t > 0.5, torch.nan, -y), dict(solver="rk4", dt=0.1), "NaN"),
    ],
)
def test_each_failure_says_where_and_carries_what_was_reached(error, f, options, where):
    ts = [0.0, 0.2, 2.0]
    with pytest.raises(error, match=where) as caught:
        solve(f, tensor(1.0), ts, **options)
    partial = caught.value.solution
    assert partial.status == caught.value.status == error.status and torch.isfinite(partial.ys[:2]).all()
    assert torch.isnan(partial.ys[2]).all()
    assert solve(f, tensor(1.0), ts, throw=False, **options).status == error.status


def test_what_cannot_work_is_refused_in_a_sentence():
    y0 = starts(3)
    for match, options in (
        ("try 'tsit5'", dict(solver="adams")),
        ("try 'kvaerno5'", dict(solver="bdf")),
        ("try 'tsit5'", dict(solver="yoshida4", dt=0.1)),
        ("use gradient='checkpointed'", dict(gradient="symplectic")),
        ("without the option checkpoints", dict(gradient="checkpointed", gradient_options=dict(checkpoints=3))),
        (r"\[T\] or \[3, T\]", dict(ts=torch.zeros(2, 4))),
        ("one number each", dict(events=Event(lambda t, y: y))),
    ):
        ts = options.pop("ts", [0.0, 1.0])
        with pytest.raises(ValueError, match=match):
            solve(van_der_pol, y0, ts, per_sample=True, **options)
    with torch.no_grad():  # where there is no gradient, none is refused
        assert solve(van_der_pol, y0, [0.0, 0.1], per_sample=True, gradient="symplectic").status == ["done"] * 3
    with pytest.raises(ValueError, match="they must be equal"):
        solve(lambda t, y: y[:, :1], y0, [0.0, 1.0], per_sample=True)
