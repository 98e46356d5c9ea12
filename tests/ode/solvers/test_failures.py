"""A solve that cannot go on raises a typed error with the time and a remedy, whatever the solver; and soon."""

import math

import pytest
import torch

import noderun
from noderun import Event, NonFiniteDynamics, SolveError, StepLimit, odeint, odeint_adjoint, odeint_event, solve
from noderun.ode.solvers import NewtonDivergence

PAIRS = ("leapfrog", "semi_implicit_euler", "yoshida4")
SOLVERS = sorted(noderun.SOLVERS.keys() - {*PAIRS, "scipy"})
ADAPTIVE = [name for name in SOLVERS if noderun.SOLVERS[name].adaptive]
SAMPLES = [name for name in SOLVERS if name in ("dopri5", "dop853", "kvaerno3", "rodas4", "radau5")]
EACH = [*((name, False) for name in ADAPTIVE), *((name, True) for name in SAMPLES)]


def ones(*shape, dtype=torch.float64):
    return torch.ones(*shape, dtype=dtype)


FIELDS = {
    "NaN beyond a wall": lambda t, y: torch.where(y > 2, torch.nan, 1 + 0 * y),
    "infinite beyond a wall": lambda t, y: torch.where(y > 2, torch.inf, 1 + 0 * y),
    "infinite at once": lambda t, y: y * torch.inf,
    "blows up": lambda t, y: y**3 * 1e200,  # implicit steps of any size damp it instead
}
FATAL = [
    (name, *each) for name in FIELDS for each in EACH if name != "blows up" or not noderun.SOLVERS[each[0]].implicit
]


@pytest.mark.parametrize(("field", "solver", "per_sample"), FATAL)
def test_min_step_and_no_number(field, solver, per_sample):
    f = FIELDS[field]
    options = dict(solver=solver, per_sample=per_sample, min_step=0.01, max_steps=2000)
    with pytest.raises((NonFiniteDynamics, NewtonDivergence), match=r"t = .*: .*\w") as caught:
        solve(f, ones(2, 1), [0.0, 3.0], **options)
    partial = caught.value.solution
    assert partial.ys[-1].isnan().all() and caught.value.t <= 1.2
    sol = solve(f, ones(2, 1), [0.0, 3.0], throw=False, **options)
    assert set([sol.status] if isinstance(sol.status, str) else sol.status) <= {"nonfinite", "newton"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("solver", "per_sample"), EACH)
def test_the_first_step_from_an_infinite_or_huge_slope(solver, per_sample, dtype):
    options = dict(solver=solver, per_sample=per_sample, max_steps=2000)
    with pytest.raises(NonFiniteDynamics, match="t = 0, after 0 steps"):
        solve(lambda t, y: y * torch.inf, ones(2, 1, dtype=dtype), [0.0, 1.0], **options)
    if not noderun.SOLVERS[solver].implicit:  # which damp what grows so fast
        huge = torch.finfo(dtype).max / 4
        with pytest.raises(SolveError, match="t = .*: "):
            solve(lambda t, y: y * huge, ones(2, 1, dtype=dtype), [0.0, 1.0], **options)


@pytest.mark.parametrize(("solver", "per_sample"), EACH)
def test_what_is_infinite_a_little_further_on_is_approached_by_smaller_steps(solver, per_sample):
    f = lambda t, y: torch.where(y > 1 + 1e-7, torch.inf, 1e-7 + 0 * y)  # noqa: E731
    sol = solve(f, ones(2, 1), [0.0, 0.5], solver=solver, per_sample=per_sample, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(sol.ys[-1], ones(2, 1) + 5e-8, rtol=1e-12, atol=0)


@pytest.mark.parametrize("ts", [[0.0, math.inf], [0.0, math.nan], [-math.inf, 0.0], [0.0, math.inf, math.inf]])
def test_times_are_finite(ts):
    f, y0, event = (lambda t, y: -y), ones(2, 1), Event(lambda t, y: y[0, 0] - 0.5, terminal=False)
    calls = [
        lambda: solve(f, y0, ts),
        lambda: solve(f, y0, ts, events=event),
        lambda: solve(f, y0, ts, per_sample=True),
        lambda: solve(f, y0, torch.tensor([ts, ts]), per_sample=True),
        lambda: odeint(f, y0, torch.tensor(ts)),
        lambda: odeint_adjoint(f, y0, torch.tensor(ts), adjoint_params=()),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="terminal event"):
            call()


@pytest.mark.parametrize("per_sample", [False, True])
def test_an_event_that_never_happens(per_sample):
    never = Event(lambda t, y: y[..., 0] + 1)
    y0 = ones(2, 1) if per_sample else ones(1)
    with pytest.raises(NonFiniteDynamics, match="inf"):
        solve(lambda t, y: 0 * y, y0, [0.0, math.inf], events=never, per_sample=per_sample)
    with pytest.raises(StepLimit, match="max_steps"):
        solve(lambda t, y: torch.cos(t) + 0 * y, y0, [0.0, math.inf], events=never, per_sample=per_sample, max_steps=50)


def test_odeint_event_looks_for_an_event_that_never_happens_no_longer_than_solve(monkeypatch):
    monkeypatch.setattr("noderun.ode.torchdiffeq_options.EVENT_STEPS", 60)
    for options in ({}, {"method": "rk4", "options": {"step_size": 0.1}}):
        with pytest.raises(StepLimit, match="max_steps = 60"):
            odeint_event(
                lambda t, y: torch.cos(t) + 0 * y, ones(1), torch.tensor(0.0), event_fn=lambda t, y: y[0] + 1, **options
            )


def work(solver):
    return {"dt": 0.25} if not noderun.SOLVERS[solver].adaptive else {"rtol": 1e-2, "atol": 1e-2}


def solved(f, y0, solver, gradient, per_sample, **options):
    """The solution; None where the pair is refused."""
    try:
        return solve(f, y0, [0.0, 1.0], solver=solver, gradient=gradient, per_sample=per_sample, **options)
    except ValueError as refusal:
        assert any(word in str(refusal) for word in ("gradient", "per_sample", "solver")), refusal
        return None


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
def test_f_need_not_depend_on_y(solver, per_sample):
    forced = lambda t, y, p: (p * torch.cos(t)).expand(y.shape)  # noqa: E731
    half = lambda t, y, p: (-y[0], forced(t, y[1], p))  # noqa: E731
    for gradient in noderun.GRADIENTS:
        p, y0 = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), ones(2, 3).requires_grad_()
        sols = [
            solved(f, y, solver, gradient, per_sample, args=(p,), **work(solver))
            for f, y in ((forced, y0), (half, (y0, y0)))
        ]
        for ys in [sol.ys[1] if isinstance(sol.ys, tuple) else sol.ys for sol in sols if sol is not None]:
            grads = torch.autograd.grad(ys[-1].sum(), (p, y0))
            torch.testing.assert_close(grads[1], ones(2, 3))
            if noderun.GRADIENTS[gradient].exact:  # the change by p is that of y, to round-off
                torch.testing.assert_close(0.7 * grads[0], (ys[-1] - ys[0]).detach().sum(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("shape", [(3, 0, 2), (0, 2)])
@pytest.mark.parametrize("solver", SOLVERS)
def test_states_without_elements(solver, shape):
    for gradient in noderun.GRADIENTS:
        for per_sample in (False, True):
            y0 = ones(*shape).requires_grad_()
            sol = solved(lambda t, y: -y, y0, solver, gradient, per_sample, **work(solver))
            if sol is not None:
                assert sol.ys.shape == (2, *shape)
                sol.ys.sum().backward()
                assert y0.grad.shape == shape


@pytest.mark.parametrize(("solver", "per_sample"), EACH)
def test_a_component_at_rest_at_zero_with_a_relative_tolerance_alone(solver, per_sample):
    y0 = torch.tensor([[0.0], [1.0]], dtype=torch.float64, requires_grad=True)
    for level in (0.0, 0.5):  # at rest, and on its way from 0
        for gradient in ("checkpointed", "adjoint"):
            options = dict(solver=solver, gradient=gradient, per_sample=per_sample, rtol=1e-4, atol=0.0)
            end = solve(lambda t, y: level - y, y0, [0.0, 1.0], **options).ys[-1]  # noqa: B023
            torch.testing.assert_close(end.detach(), level + (y0.detach() - level) * math.exp(-1), rtol=2e-2, atol=0)
            (grad,) = torch.autograd.grad(end[1].sum(), y0)
            torch.testing.assert_close(grad, torch.tensor([[0.0], [math.exp(-1)]]).double(), rtol=2e-2, atol=0)
