"""sdesolve(): outputs, nesting, direction of time, paths, failures, and words that cannot work."""

import math

import pytest
import torch
from sde_problems import GBM, METHODS, Net, path

import noderun
from noderun.sde.configured import ConfiguredSDESolve

ONES = torch.ones(8, 2)


def f(t, y):
    return -y


def g(t, y):
    return 0.3 * y


def solve(drift=f, diffusion=g, y0=ONES, ts=(0.0, 1.0), **told):
    return noderun.sdesolve(drift, diffusion, y0, list(ts), **({"dt": 0.1} | told))


@pytest.mark.parametrize(("solver", "interpretation"), METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_end_steps_and_do_not_change_the_path(solver, interpretation, dtype):
    told = {"solver": solver, "interpretation": interpretation, "y0": ONES.to(dtype), "seed": 3}
    few, many = solve(**told), solve(ts=[i / 10 for i in range(11)], **told)
    assert isinstance(few, noderun.Solution) and few.ys.dtype == dtype and many.ys.shape == (11, 8, 2)
    torch.testing.assert_close(few.ys[-1], many.ys[-1])
    assert many.stats.accepted == few.stats.accepted == 10
    every = solve(steps=True, **told)
    torch.testing.assert_close(every.ys, many.ys)


def test_irregular_times_divide_evenly():
    sol = solve(ts=[0.0, 0.25, 0.3, 1.0], dt=0.05, steps=True)
    assert torch.allclose(sol.ts, torch.tensor([i / 20 for i in range(21)], dtype=torch.float64))


def test_steps_end_where_they_are_told_to():
    ends = (0.0, 0.1, 0.4, 0.5, 1.0)
    sol = solve(ts=[0.0, 0.5, 1.0], dt=ends, steps=True)
    assert sol.ts.tolist() == pytest.approx(ends) and sol.stats.accepted == 4
    for wrong in ([0.0, 1.0], [0.0, 0.5, 0.4, 1.0], [0.0, 0.5]):
        with pytest.raises(ValueError, match="dt as the ends of steps"):
            solve(ts=[0.0, 0.5, 1.0], dt=wrong)


def test_a_solve_with_its_choices_made_divides_the_gaps_of_float32_times():
    times = torch.linspace(0, 1, 41)
    configured = ConfiguredSDESolve(dt=0.025, solver="euler")
    assert configured.ends(times) == tuple(times.tolist())
    assert len(configured.ends([0.0, 0.01, 0.06])) == 4

    class Pair:
        drift, diffusion = staticmethod(f), staticmethod(g)

    sol = configured(Pair(), ONES, [0.0, 0.01, 0.06], seed=3)
    assert sol.stats.accepted == 3


def test_samples_have_the_paths_of_their_names():
    whole = solve(seed=3).ys
    named = solve(y0=ONES[:2], seed=3, index=torch.tensor([5, 1])).ys
    assert torch.equal(named, whole[:, [5, 1]])


def test_nested_states_are_their_parts():
    parts = {"z": ONES, "w": 2 * torch.ones(8, 3, 1)}
    sol = solve(
        lambda t, y: {"z": f(t, y["z"]), "w": f(t, y["w"])}, lambda t, y: {k: 0.3 * x for k, x in y.items()}, parts
    )
    joined = torch.cat([parts["z"], parts["w"].flatten(1)], dim=1)
    whole = solve(y0=joined)
    assert torch.equal(torch.cat([sol.ys["z"], sol.ys["w"].flatten(2)], dim=2), whole.ys)


def test_a_column_of_general_noise_is_scalar_noise():
    scalar = solve(noise="scalar")
    w = scalar.brownian
    general = solve(
        diffusion=lambda t, y: g(t, y).unsqueeze(-1), noise="general", brownian=lambda s, t: w(s, t)[:, None]
    )
    torch.testing.assert_close(general.ys, scalar.ys)


def test_each_sample_has_its_own_path_whatever_the_batch():
    whole, part = solve(seed=9), solve(y0=ONES[:3], seed=9)
    assert torch.equal(whole.ys[:, :3], part.ys) and len(whole.ys[-1].unique()) == whole.ys[-1].numel()


@pytest.mark.parametrize("solver", ["heun", "midpoint", "milstein", "reversible_heun"])
def test_back_in_time_on_the_same_path(solver):
    """A Stratonovich equation goes back to where it came from, to the error of the steps."""
    y0, drift = torch.ones(50, 1, dtype=torch.float64), GBM.drift["stratonovich"]
    distances = []
    for n in (32, 128):
        told = {"solver": solver, "interpretation": "stratonovich", "dt": 1 / n, "brownian": path(128, (50, 1))}
        end = noderun.sdesolve(drift, GBM.g, y0, [0.0, 1.0], **told).ys[-1]
        back = noderun.sdesolve(drift, GBM.g, end, [1.0, 0.0], **told).ys[-1]
        distances.append((back - y0).abs().mean().item())
    assert distances[1] < 0.4 * distances[0] < 0.04


def test_forward_and_back_ask_for_the_same_increments():
    asked = []
    w = path(10, (8, 2))

    def watched(s, t):
        asked.append((min(s, t), max(s, t)))
        return w(s, t)

    told = {"brownian": watched, "solver": "heun", "interpretation": "stratonovich", "y0": ONES.double()}
    solve(**told)
    forward = sorted(asked[2:])
    asked.clear()
    solve(ts=(1.0, 0.0), **told)
    assert torch.allclose(torch.tensor(sorted(asked[2:])), torch.tensor(forward), atol=1e-15)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (
            {"solver": "heun"},
            "solver 'heun' solves Stratonovich equations .* use solver 'euler' or 'milstein', or give",
        ),
        ({"interpretation": "stratonovich"}, r"solves Ito .* 'milstein' or 'heun' .* drift f \+ 1/2 \(dg/dy\) g"),
        (
            {"solver": "milstein", "noise": "general"},
            "'milstein' cannot take noise='general', .* use 'euler' or 'heun'",
        ),
        ({"ts": (0.0, 0.05, 1.0)}, "dt = 0.1 is larger than the 0.05 from output t = 0 to 0.05"),
        ({"ts": (1.0, 0.0)}, "ts decrease, and Ito's equations go forward in time only"),
        ({"dt": None}, "give the step size dt=, or rtol= and atol="),
        ({"rtol": 1e-3}, "dt fixes the steps, and rtol and atol adapt them"),
        ({"dt": -0.1}, "dt is -0.1; a step size is positive"),
        (
            {"dt": None, "rtol": 1e-3, "solver": "reversible_heun", "interpretation": "stratonovich"},
            "takes fixed steps",
        ),
        ({"noise": "additive"}, "noise='additive' says that g does not depend on y"),
        ({"noise": "general"}, r"g returned \[8, 2\] for a state of \[8, 2\], and noise='general'"),
        ({"noise": "diagnal"}, "no noise 'diagnal'; did you mean 'diagonal'"),
        ({"solver": "eular"}, "no solver 'eular'; did you mean 'euler'"),
        ({"gradient": "reversible"}, "undoes steps exactly, which solver 'euler' cannot: use 'reversible_heun'"),
        ({"gradient": "interpolated"}, "no gradient 'interpolated'"),
        ({"y0": torch.ones(())}, "no leading dimension of samples"),
        ({"brownian": path(4, (8, 3))}, r"shape \[8, 3\], and noise='diagonal' .* needs \[8, 2\]"),
        ({"ts": (0.0, 0.0)}, "an interval has two"),
        ({"brownian": path(4, (8, 2)), "ts": (0.0, 2.0)}, r"t = 2 is outside of \[0, 1\], where the path is known"),
    ],
)
def test_what_cannot_work_ends_in_one_sentence(told, words):
    with pytest.raises(ValueError, match=words) as caught:
        solve(**told)
    assert "\n" not in str(caught.value) and ". " not in str(caught.value)


def test_types_that_cannot_work():
    with pytest.raises(TypeError, match="float32 or float64"):
        solve(y0=torch.ones(8, 2, dtype=torch.int64))
    with pytest.raises(TypeError, match="make it alike"):
        solve(brownian=path(4, (8, 2)))


def test_a_diffusion_that_is_not_finite():
    with pytest.raises(noderun.NonFiniteDynamics, match="the diffusion g returned NaN or infinity at t = 0") as caught:
        solve(diffusion=lambda t, y: y / 0)
    assert torch.equal(caught.value.solution.ys[0], ONES) and caught.value.solution.ys[1].isnan().all()
    late = solve(diffusion=lambda t, y: torch.where(t > 0.5, math.nan, y), throw=False)
    assert late.status == "nonfinite" and late.brownian is not None


def test_step_limits():
    with pytest.raises(noderun.StepLimit):
        solve(max_steps=5)
    with pytest.raises(noderun.SolveError):
        solve(dt=None, rtol=1e-12, atol=1e-12, max_steps=30)


def test_parameters_of_both_functions_are_found_and_of_no_closure():
    net = Net()
    sol = noderun.sdesolve(net.f, net.diagonal, ONES.new_ones(4, 3).double(), [0.0, 1.0], dt=0.1)
    sol.ys[-1].sum().backward()
    assert net.a.grad is not None and net.b.grad is not None
    hidden = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="cannot be found"):
        solve(diffusion=lambda t, y: hidden * y)


def test_statistics_count_calls_of_f():
    assert solve().stats.nfe_forward == 10
    assert solve(solver="heun", interpretation="stratonovich").stats.nfe_forward == 20
    assert solve(solver="reversible_heun", interpretation="stratonovich").stats.nfe_forward == 11
