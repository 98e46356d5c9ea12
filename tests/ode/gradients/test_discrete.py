"""The gradient of the discrete solve: against differences of it, and every exact method against backprop."""

from functools import cache
from math import comb

import pytest
import torch
from gradient_problems import F64, TS, Field, gradients, loss, pairs, relative, start

import noderun
from noderun.ode.gradients.checkpoint_schedule import Checkpoints, last_to_first

EXACT = [name for name, info in noderun.GRADIENTS.items() if info.exact]
SOLVERS = noderun.SOLVERS


def exact(pair):
    return pair[1] in EXACT


@pytest.mark.parametrize(("solver", "gradient"), [p for p in pairs(lambda info: info.fixed_step) if exact(p)])
def test_one_step_passes_gradcheck(solver, gradient):
    """Along a random direction of each input, which no wrong gradient is orthogonal to."""
    check(solver, gradient, torch.tensor([0.0, 0.07, 0.1], dtype=F64), fast_mode=True)


KINDS = ["dopri5", "adams_moulton", "radau5", "leapfrog", "reversible_heun"]


@pytest.mark.parametrize(("solver", "gradient"), [p for p in pairs() if exact(p) and p[0] in KINDS])
def test_a_solve_passes_gradcheck(solver, gradient):
    check(solver, gradient, TS)


def check(solver, gradient, ts, **options):
    field, y0 = Field(), start(solver)
    params = tuple(p.detach().clone().requires_grad_() for p in field.parameters())
    states = tuple(x.clone().requires_grad_() for x in (y0 if isinstance(y0, tuple) else (y0,)))

    def scalar(weight, bias, *state):
        def f(t, y):
            return torch.func.functional_call(field, {"weight": weight, "bias": bias}, (t, y))

        y = state if len(state) > 1 else state[0]
        sol = noderun.solve(f, y, ts, solver=solver, gradient=gradient, dt=0.1, params=(weight, bias))
        return loss(sol.ys)

    assert torch.autograd.gradcheck(scalar, (*params, *states), check_undefined_grad=False, **options)


@cache
def by_backprop(solver, **options):
    return gradients(solver, "backprop", **options)


@pytest.mark.parametrize(("solver", "gradient"), [p for p in pairs() if exact(p) and p[1] != "backprop"])
def test_equals_backprop_to_round_off(solver, gradient):
    info = SOLVERS[solver]
    ways = [{"dt": 0.1}] if info.fixed_step else []
    ways += [{"rtol": 1e-5, "atol": 1e-5}] if info.adaptive else []
    for options in ways:
        expected, one = by_backprop(solver, **options)
        computed, other = gradients(solver, gradient, **options)
        assert relative(computed, expected) < 1e-10
        assert torch.equal(torch.cat(tuple(one.ys)), torch.cat(tuple(other.ys)))


@pytest.mark.parametrize("gradient", sorted(set(noderun.GRADIENTS) - set(EXACT)))
def test_the_forward_solve_is_the_same_to_the_bit(gradient):
    for solver, other in pairs():
        if other == gradient and solver != "scipy":
            options = {"rtol": 1e-4, "atol": 1e-4} if SOLVERS[solver].adaptive else {"dt": 0.1}
            one, two = by_backprop(solver, **options)[1].ys, gradients(solver, gradient, **options)[1].ys
            assert torch.equal(one, two), solver


FEW = ["dopri5", "adams", "adams_moulton", "bosh3", "gauss4"]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("solver", "gradient"), [p for p in pairs() if p[0] in FEW and p[1] in ("checkpointed", "symplectic")]
)
def test_few_checkpoints_change_the_cost_and_not_the_gradient(solver, count, gradient):
    options = {"rtol": 1e-6, "atol": 1e-6} if not SOLVERS[solver].fixed_step else {"dt": 0.02}
    expected, all_held = gradients(solver, gradient, **options)
    computed, few_held = gradients(solver, gradient, gradient_options={"checkpoints": count}, **options)
    assert relative(computed, expected) < 1e-10
    assert few_held.stats.nfe_backward > all_held.stats.nfe_backward


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("count", [1, 2, 7, 40, 200])
def test_the_schedule_reaches_every_state_with_few_recomputed(limit, count):
    """With the number of steps known, revolve's optimum is r n - binomial(s + r, r - 1) advances."""
    advanced = peak = 0
    checkpoints = Checkpoints(limit)
    for n in range(count):
        checkpoints.offer(n, n)
        peak = max(peak, len(checkpoints.held))

    def advance(begin, end, state):
        nonlocal advanced
        assert state == begin
        advanced += end - begin
        return end

    assert [(n, s) for n, s in last_to_first(checkpoints, count, advance)] == [(n, n) for n in reversed(range(count))]
    repetitions = next(r for r in range(count + 1) if comb(limit + r, limit) >= count)
    best = repetitions * count - comb(limit + repetitions, repetitions - 1) if repetitions else 0
    assert peak <= limit
    assert advanced <= 1.15 * best


AGAIN = ("checkpointed", "symplectic", "reversible")


@pytest.mark.parametrize(("solver", "gradient"), [p for p in pairs(lambda info: info.adaptive) if p[1] in AGAIN])
def test_nfe_backward_does_not_depend_on_the_number_of_outputs(solver, gradient):
    counts = []
    for n in (2, 12, 101):
        stats = gradients(solver, gradient, torch.linspace(0, 2, n, dtype=F64), rtol=1e-4, atol=1e-4)[1].stats
        counts.append(stats.nfe_backward)
    # f at the very end is in no step's stages; the continuous extensions of these have stages of their own.
    more = {"dopri8": 3, "dop853": 4, "richardson": 3, "auto": 1}.get(solver, 0) * stats.accepted + 1
    assert max(counts) - min(counts) <= more * (2 if gradient == "symplectic" else 1)


def test_reversible_reports_what_it_could_not_reconstruct():
    _, sol = gradients("asynchronous_leapfrog", "reversible", dt=0.01)
    assert sol.stats.reconstruction_error < 1e-12

    def contracting(t, y):
        return -50.0 * y

    y0 = torch.ones(1, dtype=F64, requires_grad=True)
    sol = noderun.solve(contracting, y0, [0.0, 1.0], solver="reversible_heun", gradient="reversible", dt=0.01)
    with pytest.warns(RuntimeWarning, match="the backward pass arrived"):
        sol.ys[-1].sum().backward()
    assert sol.stats.reconstruction_error > 1e-8


@pytest.mark.parametrize(
    ("solver", "gradient", "reason"),
    [
        ("dopri5", "reversible", "asynchronous_leapfrog"),
        ("adams", "symplectic", "checkpointed"),
        ("radau5", "forward", "checkpointed"),
    ],
)
def test_pairs_that_cannot_work_are_refused_with_what_can(solver, gradient, reason):
    with pytest.raises(ValueError, match=reason):
        gradients(solver, gradient, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="no option 'norm'"):
        gradients("dopri5", "checkpointed", gradient_options={"norm": "full"})
