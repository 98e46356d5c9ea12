"""Events that reset the state: against the closed form of a bouncing ball, solves alone, and finite differences."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from noderun import Event, StepLimit, solve

G = 9.81
TIGHT = dict(rtol=1e-10, atol=1e-10)
EVERY_GRADIENT = ("backprop", "checkpointed", "adjoint")


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def fall(t, y):
    return torch.stack([y[..., 1], -G + 0 * y[..., 1]], dim=-1)


def floor_event(floor, restitution, **options):
    """A ball that bounces off its floor; numbers, or one of each per sample."""

    def bounce(t, y, floor, restitution):
        height, speed = y.unbind(-1)
        return torch.stack([floor + 0 * height, -restitution * speed], dim=-1)

    return Event(lambda t, y, floor, _: y[..., 0] - floor, -1, reset=bounce, args=(floor, restitution), **options)


def impacts(height, floor, restitution, count):
    """t_n = sqrt(2 h / g) (1 + 2 e + ... + 2 e^(n - 1)) of balls dropped from h above their floors."""
    powers = restitution ** torch.arange(count).unsqueeze(-1)
    return torch.sqrt(2 * (height - floor) / G) * ((2 * powers).cumsum(0) - 1)


HEIGHT, FLOOR, RESTITUTION = tensor(1.0, 2.0, 0.7), tensor(0.0, 0.5, -0.2), tensor(0.8, 0.6, 0.9)


def bouncing(height, floor, restitution, ts, per_sample=True, **options):
    y0 = torch.stack([height, torch.zeros_like(height)], dim=-1)
    return solve(fall, y0, ts, events=floor_event(floor, restitution), per_sample=per_sample, **TIGHT | options)


def test_balls_with_a_floor_and_a_restitution_each():
    ts = torch.linspace(0, 1.5, 16, dtype=torch.float64)
    sol = bouncing(HEIGHT, FLOOR, RESTITUTION, ts)
    (found,) = sol.events
    expected = impacts(HEIGHT, FLOOR, RESTITUTION, 9)
    for i in range(3):
        ours = found.ts[:, i][torch.isfinite(found.ts[:, i])]
        assert len(ours) == int((expected[:, i] < 1.5).sum()) >= 2
        torch.testing.assert_close(ours, expected[: len(ours), i], atol=1e-9, rtol=0)
        alone = bouncing(HEIGHT[i], FLOOR[i], RESTITUTION[i], ts, per_sample=False)
        torch.testing.assert_close(sol.ys[:, i], alone.ys, atol=1e-8, rtol=0)
        torch.testing.assert_close(alone.events[0].ts, ours, atol=1e-9, rtol=0)
        assert int(sol.stats.nfe_forward[i]) > int(alone.stats.nfe_forward) / 2 > 0
    last = found.ts[: int((expected[:, 0] < 1.5).sum()), 0][-1]
    since, speed = 1.5 - last, math.sqrt(2 * G) * 0.8 ** int((expected[:, 0] < 1.5).sum())
    torch.testing.assert_close(sol.ys[-1, 0, 0], speed * since - G / 2 * since**2, atol=1e-8, rtol=0)
    assert sol.status == ["done"] * 3 and torch.isfinite(sol.ys).all()


@pytest.mark.parametrize("gradient", EVERY_GRADIENT)
def test_derivatives_of_impacts_in_closed_form(gradient):
    inputs = [x.clone().requires_grad_() for x in (HEIGHT, FLOOR, RESTITUTION)]
    third = bouncing(*inputs, [0.0, 1.9], gradient=gradient).events[0].ts[2].sum()
    exact = impacts(*inputs, 3)[2].sum()
    for ours, expected in zip(torch.autograd.grad(third, inputs), torch.autograd.grad(exact, inputs), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("gradient", EVERY_GRADIENT)
@pytest.mark.parametrize("per_sample", [False, True])
def test_derivatives_of_states_between_and_after_resets(gradient, per_sample):
    """A pendulum that is kicked where it crosses a moving line: f, the event and the reset depend on parameters."""

    def states(y0, length, level, kick, ts):
        f = lambda t, y, length: torch.stack([y[..., 1], -torch.sin(y[..., 0]) / length], dim=-1)  # noqa: E731

        def kicked(t, y, level, kick):
            return torch.stack([y[..., 0], kick * y[..., 1] + 0.1 * t.reshape(y.shape[:-1])], dim=-1)

        def line(t, y, level, kick):
            return y[..., 0] - level - 0.1 * t.reshape(y.shape[:-1])

        crossing = Event(line, -1, reset=kicked, args=(level, kick))
        options = dict(args=(length,), gradient=gradient, per_sample=per_sample, rtol=1e-8, atol=1e-8)
        return solve(f, y0, ts, events=crossing, **options).ys[1:]

    start, length, level, kick = tensor([1.0, 0.2], [0.6, -0.1]), tensor(1.0, 1.4), tensor(0.2, 0.1), tensor(0.8, 0.7)
    ts = tensor(0.0, 1.0, 6.0)
    inputs = [start, length, level, kick] if per_sample else [start[0], length[0], level[0], kick[0]]
    assert gradcheck(
        states,
        [*(x.clone().requires_grad_() for x in inputs), ts.requires_grad_()],
        atol=1e-4,
        eps=1e-5,
        fast_mode=True,
    )


def test_the_nesting_of_a_state_and_times_that_run_back():
    def f(t, state):
        return {"height": state["speed"], "speed": -G + 0 * state["speed"]}

    def bounce(t, state):
        return {"height": state["height"], "speed": -0.8 * state["speed"]}

    floor = Event(lambda t, state: state["height"], -1, reset=bounce)
    sol = solve(f, {"height": tensor(1.0)[0], "speed": tensor(0.0)[0]}, [0.0, 1.2], events=floor, **TIGHT)
    torch.testing.assert_close(sol.events[0].ts, impacts(tensor(1.0), 0.0, tensor(0.8), 2)[:, 0], atol=1e-8, rtol=0)
    turn = Event(lambda t, y: y[:, 0] - 0.5, reset=lambda t, y: 2 * y)
    back = solve(
        lambda t, y: y, torch.ones(2, 1).double(), tensor([0.0, -1.0], [0.0, 1.0]), events=turn, per_sample=True
    )
    torch.testing.assert_close(back.ys[1, :, 0], tensor(2 * math.exp(-1), math.exp(1)), atol=1e-5, rtol=0)


def test_a_terminal_event_beside_a_reset_and_one_that_never_ends():
    ceiling = Event(lambda t, y: y[:, 1] - 3.0, 1)  # the first bounce of the second ball alone is as fast
    bounce = floor_event(FLOOR, RESTITUTION)
    y0 = torch.stack([HEIGHT, 0 * HEIGHT], dim=1)
    top = Event(lambda t, y: t.squeeze(1) - 1.0 + 10 * (y[:, 0] > 1.9), 1)
    sol = solve(fall, y0, [0.0, 5.0], events=[bounce, ceiling, top], per_sample=True, **TIGHT)
    assert sol.status == ["event"] * 3 and torch.isnan(sol.ys[1]).all()
    with pytest.raises(StepLimit, match="resets did not reach the end"):
        solve(fall, y0, [0.0, 5.0], events=floor_event(FLOOR, 0 * FLOOR + 1), per_sample=True, max_steps=3, dt=9.0)


@pytest.mark.parametrize("wrong", [dict(steps=True), dict(dense=True)])
def test_what_cannot_be_kept_across_resets(wrong):
    with pytest.raises(ValueError, match="at a reset"):
        bouncing(HEIGHT, FLOOR, RESTITUTION, [0.0, 1.0], **wrong)
    with pytest.raises(ValueError, match="leave terminal=True"):
        floor_event(FLOOR, RESTITUTION, terminal=False)
