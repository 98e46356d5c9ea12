"""Any f, state, solver, gradient, times and tolerances: a solution, a refusal at the start, or a typed error; soon."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import noderun
from noderun import SolveError, solve

MOST_STEPS = 300  # of one solve, so that the slowest failure ends
PAIRS = ("leapfrog", "semi_implicit_euler", "yoshida4")  # on a state (q, p) only
SHAPES = [(1, 1), (2, 3), (2, 1, 2), (2, 0), (0, 2)]


def decay(t, y, rate):
    return -rate * y


def forced(t, y, rate):
    """Independent of y."""
    return (rate * torch.cos(t)).expand_as(y)


def unused(t, y, rate):
    """Independent of everything."""
    return torch.ones_like(y.detach())


def wall(t, y, rate):
    return torch.where(y > 1.1, torch.nan, rate + 0 * y)


def pole(t, y, rate):
    return rate * y**2 * 10


def infinite(t, y, rate):
    return rate * y / 0.0


def gradient_inside(t, y, rate):
    with torch.enable_grad():
        x = y if y.requires_grad else y.detach().requires_grad_()
        energy = (rate * x.square() / 2).sum()
        return -torch.autograd.grad(energy, x, create_graph=True)[0]


FIELDS = [decay, forced, unused, wall, pole, infinite, gradient_inside]


@st.composite
def problems(draw):
    start, span = draw(st.floats(-2, 2)), draw(st.sampled_from([-1.0, 1.0])) * draw(st.floats(1e-3, 2))
    solver = draw(st.sampled_from(sorted(noderun.SOLVERS)))
    info = noderun.SOLVERS[solver]
    options = dict(solver=solver, gradient=draw(st.sampled_from(sorted(noderun.GRADIENTS))))
    options["per_sample"] = draw(st.booleans())
    if not info.adaptive or (info.fixed_step and draw(st.booleans())):
        options["dt"] = abs(span) * draw(st.floats(0.1, 2))
    else:
        options |= dict(rtol=10.0 ** draw(st.integers(-7, -1)), atol=draw(st.sampled_from([0.0, 1e-9, 1e-3])))
        options["min_step"] = abs(span) * draw(st.sampled_from([0.0, 0.0, 1e-2]))
    if draw(st.booleans()):
        options["jump_ts"] = [start, start + span]
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from([torch.float32, torch.float64]))
    y0 = torch.full(shape, draw(st.sampled_from([0.0, 1.0])), dtype=dtype, requires_grad=True)
    ts = torch.linspace(start, start + span, draw(st.integers(2, 4)), dtype=torch.float64)
    return draw(st.sampled_from(FIELDS)), y0, ts, options


@settings(max_examples=150, deadline=None, derandomize=True)
@given(problems())
def test_a_solve_ends_as_it_should(problem):
    field, y0, ts, options = problem
    low, high, calls = min(ts).item(), max(ts).item(), 0
    rate = torch.tensor(0.5, dtype=y0.dtype, requires_grad=True)

    def f(t, y, rate):
        nonlocal calls
        calls += 1
        assert all(low <= x <= high for x in t.detach().flatten().tolist())
        if isinstance(y, tuple):
            return field(t, y[1], rate), field(t, y[0], rate)
        return field(t, y, rate)

    state = (y0, y0.detach()) if options["solver"] in PAIRS else y0
    try:
        sol = solve(f, state, ts, args=(rate,), max_steps=MOST_STEPS, **options)
        ends = [y[-1] for y in sol.ys] if isinstance(sol.ys, tuple) else [sol.ys[-1]]
        assert all(end.isfinite().all() for end in ends)
        if ends[0].requires_grad:
            grads = torch.autograd.grad(sum(end.sum() for end in ends), (y0, rate), allow_unused=True)
            assert all(grad is None or grad.isfinite().all() for grad in grads)
        if field is unused:
            torch.testing.assert_close(ends[0] - y0, (ts[-1] - ts[0]).expand_as(y0).to(y0), rtol=1e-4, atol=1e-6)
    except SolveError as error:
        assert low <= error.t <= high and "t = " in str(error) and len(str(error).split(": ")[-1]) > 20
    except ValueError as refusal:
        assert calls == 0 and any(word in str(refusal) for word in ("gradient", "per_sample", "solver")), refusal
    assert calls < 60 * MOST_STEPS
