"""solve(): what it returns, what it counts, and how it fails."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp

import noderun
from noderun import solve
from noderun.ode.arguments import flattened
from noderun.ode.solvers.state import Layout

ADAPTIVE = [name for name, info in noderun.SOLVERS.items() if info.adaptive and not info.implicit and name != "scipy"]


def pendulum(t, y):
    return torch.stack([y[..., 1], -torch.sin(y[..., 0]) + 0.1 * torch.cos(t)], -1)


def reference(ts, y0):
    def f(t, y):
        return [y[1], -math.sin(y[0]) + 0.1 * math.cos(t)]

    return torch.tensor(solve_ivp(f, (ts[0], ts[-1]), y0, method="DOP853", t_eval=ts, rtol=1e-12, atol=1e-13).y.T)


@pytest.mark.parametrize("span", [(0.0, 3.0), (3.0, -1.0)])
@pytest.mark.parametrize("solver", ["bosh3", "dopri5", "tsit5"])
def test_outputs_agree_with_scipy_at_every_time_either_way(solver, span):
    ts = torch.linspace(*span, 41, dtype=torch.float64)
    sol = solve(pendulum, torch.tensor([1.0, 0.5], dtype=torch.float64), ts, solver=solver, rtol=1e-8, atol=1e-8)
    assert torch.allclose(sol.ys, reference(ts.tolist(), [1.0, 0.5]), atol=2e-7, rtol=0)
    assert sol.ys[0].tolist() == [1.0, 0.5]


@pytest.mark.parametrize(("solver", "stages"), [("bosh3", 3), ("dopri5", 6), ("tsit5", 6)])
def test_nfe_is_first_step_plus_stages_without_the_last_of_fsal(solver, stages):
    stats = solve(pendulum, torch.tensor([1.0, 0.5]), [0.0, 3.0], solver=solver, rtol=1e-4, atol=1e-4).stats
    assert stats.nfe_forward == 2 + stages * (stats.accepted + stats.rejected)


@pytest.mark.parametrize(("solver", "stages"), [("euler", 1), ("midpoint", 2), ("heun2", 2), ("rk4", 4), ("dopri5", 6)])
def test_nfe_of_fixed_steps_is_stages_times_steps(solver, stages):
    stats = solve(pendulum, torch.tensor([1.0, 0.5]), [0.0, 1.0], solver=solver, dt=0.1).stats
    assert (stats.nfe_forward, stats.accepted, stats.rejected) == (10 * stages, 10, 0)


def test_nfe_does_not_depend_on_how_many_outputs_are_read():
    y0 = torch.tensor([1.0, 0.5])
    few, many = (solve(pendulum, y0, torch.linspace(0, 3, n)).stats for n in (2, 500))
    assert few == many


def test_every_call_of_f_is_counted():
    calls = 0

    def f(t, y):
        nonlocal calls
        calls += 1
        return pendulum(t, y)

    stats = solve(f, torch.tensor([1.0, 0.5]), torch.linspace(0, 30, 7), rtol=1e-6).stats
    assert stats.nfe_forward == calls


def test_a_rejected_step_is_counted_and_leaves_the_solution_right():
    y0 = torch.tensor([1.0, 0.5], dtype=torch.float64)
    sol = solve(pendulum, y0, [0.0, 3.0], rtol=1e-6, atol=1e-6, first_step=2.9)
    assert sol.stats.rejected >= 1
    assert torch.allclose(sol.ys[-1], reference([0.0, 3.0], [1.0, 0.5])[-1], atol=1e-5)


@pytest.mark.parametrize("nest", [lambda q, p: (q, p), lambda q, p: {"q": q, "p": p}], ids=["tuple", "dict"])
def test_a_nested_state_is_solved_like_a_flat_one(nest):
    def f(t, y):
        q, p = y.values() if isinstance(y, dict) else y
        return nest(p, -q)

    q, p = torch.randn(3, 2), torch.randn(3, 2)
    ys = solve(f, nest(q, p), [0.0, 1.0, 2.0]).ys
    flat = solve(lambda t, y: torch.cat([y[3:], -y[:3]]), torch.cat([q, p]), [0.0, 1.0, 2.0]).ys
    got = torch.cat(list(ys.values() if isinstance(ys, dict) else ys), dim=1)
    assert torch.equal(got, flat)


def test_a_complex_state_turns():
    y0 = torch.tensor([1.0 + 0j], dtype=torch.complex128)
    ys = solve(lambda t, y: 1j * y, y0, [0.0, math.pi], rtol=1e-9, atol=1e-9).ys
    assert abs(ys[-1].item() + 1) < 1e-7


def test_t_is_a_tensor_of_the_states_real_dtype():
    seen = set()

    def f(t, y):
        seen.add((t.dtype, t.dim()))
        return -y

    solve(f, torch.ones(2, dtype=torch.complex64), [0.0, 1.0])
    assert seen == {(torch.float32, 0)}


@pytest.mark.parametrize("solver", ADAPTIVE)
def test_the_forward_is_bit_identical_under_every_gradient(solver):
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    field = Field(net)
    y0, ts = torch.randn(5, 3), torch.linspace(0, 2, 6)
    with torch.no_grad():
        plain = solve(field, y0, ts, solver=solver, rtol=1e-4, atol=1e-4)
    for gradient in ("backprop", "adjoint", "checkpointed"):
        sol = solve(field, y0, ts, solver=solver, rtol=1e-4, atol=1e-4, gradient=gradient)
        assert torch.equal(sol.ys, plain.ys) and sol.stats.nfe_forward == plain.stats.nfe_forward


class Field(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, t, y):
        return self.net(y) * torch.cos(t)


def blow_up(t, y):
    return y**2


def breaks_at_one(t, y):
    return torch.where(t < 1, -y, torch.nan)


@pytest.mark.parametrize(
    ("f", "options", "error"),
    [
        (blow_up, {"rtol": 1e-6}, noderun.StepUnderflow),
        (breaks_at_one, {}, noderun.NonFiniteDynamics),
        (breaks_at_one, {"solver": "rk4", "dt": 0.1}, noderun.NonFiniteDynamics),
        (pendulum, {"max_steps": 3, "rtol": 1e-10}, noderun.StepLimit),
        (pendulum, {"max_steps": 3, "dt": 0.1}, noderun.StepLimit),
    ],
)
def test_a_failure_is_typed_and_carries_what_was_reached(f, options, error):
    y0 = torch.tensor([1.0, 0.5], dtype=torch.float64)
    with pytest.raises(error, match=r"t = |max_steps") as caught:
        solve(f, y0, [0.0, 0.05, 2.0], **options)
    partial = caught.value.solution
    assert torch.equal(partial.ys[0], y0) and partial.ys[-1].isnan().all()
    assert solve(f, y0, [0.0, 0.05, 2.0], throw=False, **options).status == error.status


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"solver": "dopri"}, ValueError, "no solver 'dopri'; did you mean 'dopri5'"),
        ({"gradient": "ajoint"}, ValueError, "no gradient 'ajoint'; did you mean 'adjoint'"),
        ({"solver": "rk4"}, ValueError, "fixed step"),
        ({"dt": -0.1}, ValueError, "positive"),
        ({"rtol": -1e-3}, ValueError, "at least 0"),
        ({"ts": [0.0, 1.0, 0.5]}, ValueError, "monotone"),
        ({"y0": torch.tensor([1, 2])}, TypeError, "floating point"),
        ({"f": lambda t, y: y[:1]}, ValueError, r"shape \[1\] for a state of shape \[2\]"),
    ],
)
def test_arguments_that_cannot_work_are_refused_in_one_sentence(change, error, words):
    arguments = {"f": pendulum, "y0": torch.ones(2), "ts": [0.0, 1.0], **change}
    with pytest.raises(error, match=words):
        solve(**arguments)


def test_parameters_hidden_in_a_closure_are_not_lost_silently():
    net = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="params="):
        solve(lambda t, y: net(y), torch.ones(2), [0.0, 1.0])
    loss = solve(lambda t, y: net(y), torch.ones(2), [0.0, 1.0], params=net.parameters()).ys.sum()
    loss.backward()
    assert net.weight.grad.abs().sum() > 0


HALF = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("per_sample", [False, True])
def test_half_precision_is_solved_where_it_can_be_and_refused_elsewhere(dtype, per_sample):
    f, y0 = (lambda t, y: -y), torch.ones(2, 1, dtype=dtype)
    with pytest.raises(ValueError, match=r"resolution of .*float16: loosen it, or use a state in float32"):
        solve(f, y0, [0.0, 1.0], per_sample=per_sample)
    with pytest.raises(ValueError, match=r"'radau5' solves linear systems"):
        solve(f, y0, [0.0, 1.0], solver="radau5", rtol=1e-1, per_sample=per_sample)
    eps = torch.finfo(dtype).eps
    for options in (dict(rtol=2 * eps, atol=2 * eps), dict(solver="rk4", dt=0.25)):
        end = solve(f, y0, [0.0, 1.0], per_sample=per_sample, **options).ys[-1]
        torch.testing.assert_close(end.double(), torch.full((2, 1), math.exp(-1)).double(), rtol=16 * eps, atol=0)


@pytest.mark.parametrize("interface", ["odeint", "odeint_adjoint"])
def test_torchdiffeqs_signatures_refuse_the_same(interface):
    solved = getattr(noderun, interface)
    options = dict(adjoint_params=()) if interface == "odeint_adjoint" else {}
    f, t = (lambda t, y: -y), torch.tensor([0.0, 1.0])
    for dtype in HALF:
        with pytest.raises(ValueError, match="resolution of"):
            solved(f, torch.ones(2, dtype=dtype), t, **options)
    with pytest.raises(TypeError, match=r"y0.float\(\)"):
        solved(f, torch.tensor([1, 2]), t, **options)
    with pytest.raises(ValueError, match="3 tolerances for a state of 2 tensors"):
        solved(lambda t, y: y, (torch.ones(1), torch.ones(1)), t, rtol=(1e-3, 1e-3, 1e-3), **options)


def test_a_tolerance_by_component_is_put_beside_the_state():
    state = torch.empty(2, device="meta", dtype=torch.float64)
    found = flattened(torch.ones(2), Layout.of(state), state)
    assert found.device.type == "meta" and found.dtype == torch.float64


def test_a_tolerance_by_component_has_the_states_nesting():
    y0 = (torch.ones(1), torch.ones(2))
    with pytest.raises(ValueError, match=r"a tolerance has .* for a state of"):
        solve(lambda t, y: y, y0, [0.0, 1.0], rtol=(torch.ones(1), torch.ones(2), torch.ones(1)))
    double = tuple(torch.full_like(y, 1e-3, dtype=torch.float64) for y in y0)  # it follows the state's dtype
    assert solve(lambda t, y: y, y0, [0.0, 1.0], rtol=double, atol=double).ys[1].dtype == torch.float32


@pytest.mark.parametrize("per_sample", [False, True])
def test_times_that_the_states_dtype_hardly_tells_apart_are_warned_of(per_sample):
    f, now = (lambda t, y: 0 * y + t), 1.7e9  # seconds since 1970
    with pytest.warns(RuntimeWarning, match="count t from the start of the solve, or use a state in float64"):
        solve(f, torch.zeros(1, 1), [now, now + 1], per_sample=per_sample)
    with pytest.warns(RuntimeWarning, match="rounds times"):
        noderun.odeint(f, torch.zeros(1, 1), torch.tensor([now, now + 1], dtype=torch.float64))
    solve(f, torch.zeros(1, 1).double(), [now, now + 1], per_sample=per_sample)
    solve(f, torch.zeros(1, 1), [0.0, 1.0], per_sample=per_sample)
    solve(f, torch.zeros(1, 1), [0.0, 0.3, 0.300001, 0.7, 1.0], per_sample=per_sample)  # irregular, but from the start
    with pytest.warns(RuntimeWarning, match="rounds times"):
        solve(f, torch.zeros(1, 1), [now, now + 300.0, now + 301.0, now + 1e4], per_sample=per_sample)


@pytest.mark.parametrize("ts", [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0]])
@pytest.mark.parametrize("per_sample", [False, True])
def test_times_may_repeat(ts, per_sample):
    ys = solve(lambda t, y: -y, torch.ones(2, 1, dtype=torch.float64), ts, per_sample=per_sample, rtol=1e-8).ys
    torch.testing.assert_close(ys[:, 0, 0], torch.exp(-torch.tensor(ts, dtype=torch.float64)), atol=1e-6, rtol=0)
