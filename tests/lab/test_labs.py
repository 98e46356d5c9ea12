"""Each lab on a small setting: its figure and CSV exist, and the CSV holds what the lab is for."""

import csv
import math
from importlib import import_module

import pytest
import torch

from noderun.lab import divergence, trajectory
from noderun.lab.context import LabContext
from noderun.lab.measure import run_solver
from noderun.lab.order import observed_order
from noderun.lab.problems import PROBLEMS
from noderun.lab.reference import reference
from noderun.lab.settings import LABS, ProblemChoice, Settings, SolverChoice
from noderun.lab.stability import stability_function, together

PNG = b"\x89PNG"


def run(folder, lab, problem="lotka_volterra", solver="dopri5", rtol=1e-6, dt=None, t1=None, **options):
    settings = Settings(
        lab=LABS[lab](**options),
        problem=ProblemChoice(problem, t1),
        solver=SolverChoice(solver, rtol=rtol, atol=rtol, dt=dt),
    )
    return import_module(f"noderun.lab.{lab}").run(LabContext(settings, folder))


def drawn(folder, name):
    """The rows of a figure's CSV, numbers as numbers."""
    assert (folder / f"{name}.png").read_bytes().startswith(PNG)
    with (folder / f"{name}.csv").open(newline="") as file:
        return [{key: number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def number(text):
    try:
        return float(text)
    except ValueError:
        return text


@pytest.mark.parametrize(
    "problem, solver, dt",
    [("lotka_volterra", "tsit5", None), ("pendulum", "bosh3", None), ("kepler", "leapfrog", 0.02)],
)
def test_trajectory(tmp_path, problem, solver, dt):
    findings = run(tmp_path, "trajectory", problem, solver, dt=dt)
    (row,) = findings.rows
    steps = drawn(tmp_path, "trajectory")
    assert len(steps) == row["steps"] + 1
    assert sum(step["h"] for step in steps[1:]) == pytest.approx(steps[-1]["t"])
    assert row["error"] < 0.5 if dt else row["error"] < 1e-4
    assert row["Jacobians"] is None


def test_a_path_bends_between_coarse_steps_and_small_components_get_units():
    problem = PROBLEMS["harmonic_oscillator"]()
    solution, _ = run_solver(problem, "dopri5", rtol=1e-8, atol=1e-8, dense=True)
    times, states = trajectory.path(solution, [0.0, 5.0, 10.0])
    truth = reference(problem, times)
    assert len(times) == 33 and (states - truth).abs().max() < 1e-5
    assert trajectory.component_units(torch.tensor([[1.0, -3.6e-5], [0.5, 0.0]])) == [1.0, 1e-5]
    assert trajectory.component_units(torch.tensor([[1.0, 0.1]])) == [1.0, 1.0]


def test_trajectory_of_a_solve_that_fails_says_where_and_what_to_try(tmp_path):
    settings = Settings(LABS["trajectory"](), ProblemChoice("rober"), SolverChoice("dopri5", max_steps=100))
    with pytest.raises(RuntimeError, match="dopri5 on rober: step_limit after t = .*, in 100 steps; .*solver="):
        import_module("noderun.lab.trajectory").run(LabContext(settings, tmp_path))


def test_order(tmp_path):
    findings = run(tmp_path, "order", "nonautonomous_linear", solvers=("rk4", "heun2"), steps=(8, 16, 32, 64))
    observed = {row["solver"]: row["observed order"] for row in findings.rows}
    assert 3.7 < observed["rk4"] < 4.5 and 1.7 < observed["heun2"] < 2.3
    errors = [row["error"] for row in drawn(tmp_path, "order") if row["solver"] == "rk4"]
    assert len(errors) == 4 and errors[2] / errors[3] == pytest.approx(16, rel=0.2)


def test_an_order_whose_slopes_differ_is_not_asymptotic():
    steps = [0.5**i for i in range(6)]
    settled = observed_order([{"h": h, "error": 0.1 * h**3} for h in steps])
    assert settled == (pytest.approx(3.0), True)
    assert not observed_order([{"h": h, "error": 0.01 * (h**2 + h**5)} for h in steps[:3]]).asymptotic
    assert observed_order([{"h": 1.0, "error": 0.1}]) == (None, None)


def test_order_leaves_out_what_cannot_take_the_problem(tmp_path, caplog):
    findings = run(tmp_path, "order", "lotka_volterra", solvers=("leapfrog", "rk4"), steps=(64, 128))
    assert [row["solver"] for row in findings.rows] == ["rk4"]
    assert "leapfrog is left out: it needs a state (q, p)" in caplog.text


def test_work_precision(tmp_path):
    run(tmp_path, "work_precision", solvers=("dopri5", "rk4"), tolerances=(1e-4, 1e-7), steps=(50, 100), repeats=1)
    rows = drawn(tmp_path, "work_precision")
    for solver in ("dopri5", "rk4"):
        loose, tight = [row for row in rows if row["solver"] == solver]
        assert tight["error"] < loose["error"] / 5 and tight["NFE"] > loose["NFE"]
        assert tight["milliseconds"] > 0


def test_work_precision_marks_what_did_not_arrive(tmp_path):
    findings = run(tmp_path, "work_precision", solvers=("bosh3",), tolerances=(1e-8,), repeats=1, max_steps=50)
    assert findings.rows[0]["status"] == "step_limit" and findings.rows[0]["error"] is None


def test_stability(tmp_path):
    findings = run(tmp_path, "stability", solvers=("rk4", "implicit_euler"))
    assert {row["method"]: row["L-stable"] for row in findings.rows} == {"rk4": False, "implicit_euler": True}
    for row in drawn(tmp_path, "regions"):
        r = stability_function(row["method"])(complex(row["re"], row["im"]))
        assert abs(r) == pytest.approx(1, abs=0.01)


def test_stability_of_coefficients_that_a_user_gives(tmp_path):
    findings = run(tmp_path, "stability", a=((), (1.0,)), b=(0.5, 0.5), alpha=(1.0, -1.0, 0.0), beta=(0.0, 1.5, -0.5))
    onestep, multistep = findings.rows
    assert (onestep["order"], onestep["real interval"]) == (2, pytest.approx(2.0, abs=1e-3))
    assert (multistep["order"], multistep["zero-stable"]) == (2, True)
    assert drawn(tmp_path, "regions") and drawn(tmp_path, "loci")


def test_steps(tmp_path):
    run(tmp_path, "steps", "detest_a3", rtol=1e-3, t1=8.0, dt=None)
    rows = [row for row in drawn(tmp_path, "steps") if row["kind"] == "step"]
    euler = [row for row in rows if row["solver"].startswith("euler")]
    assert [row["t"] for row in euler] == list(range(9))
    assert euler[1]["y"] == 2.0 and euler[2]["y"] == pytest.approx(2 + 2 * math.cos(1))
    adaptive = [row for row in rows if row["solver"].startswith("dopri5")]
    assert adaptive[-1]["y"] == pytest.approx(math.exp(math.sin(8)), rel=0.01)


def test_conservation(tmp_path):
    findings = run(tmp_path, "conservation", "kepler", solvers=("leapfrog", "rk4"), periods=12, nfe_per_period=300)
    growth = {row["solver"]: row["last tenth / first tenth"] for row in findings.rows}
    assert growth["leapfrog"] < 1.5 and growth["rk4"] > 4
    costs = [row["NFE"] for row in findings.rows]
    assert max(costs) < 1.05 * min(costs)
    assert len(drawn(tmp_path, "conservation")) == 2 * 12


def test_gradient_of_the_linear_case(tmp_path):
    findings = run(tmp_path, "gradient", tolerances=(1e-1, 1e-3), cases=("linear",))
    assert {"backprop", "adjoint", "checkpointed"} <= {row["gradient"] for row in findings.rows}
    for name in {row["gradient"] for row in findings.rows}:
        loose, tight = [row["gradient error"] for row in findings.rows if row["gradient"] == name]
        assert tight < loose / 5 and tight < 0.1
    held = {row["gradient"]: row["held (MiB)"] for row in findings.rows}
    assert held["adjoint"] < held["checkpointed"] < held["backprop"]
    for figure in ("gradient_error", "memory", "time", "nfe"):
        assert drawn(tmp_path, figure)


def test_a_gradient_without_a_result_keeps_what_it_cost(tmp_path):
    options = {"tolerances": (1e-1, 1e-9), "gradients": ("checkpointed",), "cases": ("linear",), "max_steps": 20}
    findings = run(tmp_path, "gradient", **options)
    assert [row["status"] for row in findings.rows] == ["done", "step_limit"]
    assert findings.rows[1]["NFE forward"] > 100 and findings.rows[1]["gradient error"] is None
    assert (tmp_path / "gradient_error.png").is_file()


def test_scipy_tells_no_one_what_it_rejects(tmp_path):
    options = {"solvers": ("scipy", "dopri5"), "tolerances": (1e-4,), "repeats": 1}
    rows = run(tmp_path, "work_precision", **options).rows
    rejected = {row["solver"]: row["rejected"] for row in rows}
    assert rejected["scipy"] is None and rejected["dopri5"] is not None


def test_gradient_of_the_forced_case_needs_the_integral_in_the_norm(tmp_path):
    findings = run(tmp_path, "gradient", tolerances=(1e-6,), cases=("forced",), gradients=("adjoint",))
    full, seminorm = (row["gradient error"] for row in findings.rows)
    assert full < 1e-3 and seminorm > 1


def test_gradient_of_a_trained_field_goes_wrong_where_its_solution_is_integrated_backwards(tmp_path):
    names = ("adjoint", "checkpointed")
    findings = run(tmp_path, "gradient", tolerances=(1e-4,), cases=("trained",), gradients=names)
    adjoint, _, checkpointed = (row["gradient error"] for row in findings.rows)  # beside the adjoint its seminorm
    assert checkpointed < 0.05 and adjoint > 10 * checkpointed


def test_divergence(tmp_path):
    findings = run(tmp_path, "divergence", dimensions=(2, 128), batch=32, hidden=8, rounds=1)
    small, large = findings.rows
    assert [row["D"] for row in drawn(tmp_path, "divergence")] == [2, 128]
    slope = math.log(large["exact (ms)"] / small["exact (ms)"]) / math.log(128 / 2)
    assert findings.values["exponent_exact"] == pytest.approx(slope)


def test_the_quantities_of_divergence_are_what_they_are_called():
    torch.manual_seed(0)
    weight = torch.randn(5, 5, dtype=torch.float64)
    x = torch.randn(3, 5, dtype=torch.float64)

    def f(y):
        return torch.sin(y @ weight)

    jacobian = torch.stack([torch.autograd.functional.jacobian(f, row) for row in x])
    torch.testing.assert_close(divergence.exact(f, x), jacobian.diagonal(dim1=1, dim2=2).sum(1))
    whole = torch.linalg.det(torch.eye(5, dtype=torch.float64) + jacobian).abs().log()
    torch.testing.assert_close(divergence.log_det(f, x), whole)
    noise = torch.randn(3, 5, dtype=torch.float64)
    estimate = torch.einsum("bi,bij,bj->b", noise, jacobian, noise)
    torch.testing.assert_close(divergence.hutchinson(f, x, noise), estimate)


def test_methods_of_one_stability_function_are_named_together():
    names = ("heun2", "rk4", "midpoint", "trapezoid", "ralston2", "implicit_midpoint")
    found = together({name: stability_function(name) for name in names})
    assert list(found) == ["heun2, midpoint, ralston2", "rk4", "trapezoid, implicit_midpoint"]
