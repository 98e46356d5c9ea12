"""What a command line says of a solver's steps reaches the engine, or is refused before anything starts."""

import pytest
import torch

from noderun.cli.main import main
from noderun.cli.planning import make_job
from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.ode import engine
from noderun.ode.solvers import CONTROLLERS, SOLVERS, StepController
from noderun.training.build import make_solve
from noderun.training.solve_compatibility import OWN_CONTROL

Y0 = torch.tensor([[2.0, 0.0, 1.0], [0.5, 1.0, 3.0]], dtype=torch.float64)
SAID = {
    "controller=PI": {"controller": "PI"},
    "controller=[0.3,0.4]": {"controller": StepController(0.3, 0.4)},
    "norm=max": {"norm": "max"},
    "first_step=1e-4": {"first_step": 1e-4},
    "min_step=0.25": {"min_step": 0.25},
    "max_step=0.02": {"max_step": 0.02},
    "per_sample=true": {"per_sample": True},
}


def field(t, y):
    """Van der Pol's equation, which needs small steps and large ones, and a decay beside it."""
    a, b, c = y.unbind(-1)
    return torch.stack([b, 5 * (1 - a**2) * b - a, -c], dim=-1)


def counts(solve, **keywords):
    with torch.no_grad():
        stats = solve(field, Y0, [0.0, 2.0], throw=False, **keywords).stats
    return [torch.as_tensor(count).tolist() for count in (stats.nfe_forward, stats.accepted, stats.rejected)]


@pytest.fixture(scope="module")
def composer():
    return Composer("train", [config_folder()])


def made(composer, *words):
    settings = make_job(composer, words).settings
    return make_solve(settings.solver, settings.gradient)


@pytest.mark.parametrize("word", SAID)
def test_it_reaches_the_engine(word, composer):
    tolerances = {"rtol": 1e-4, "atol": 1e-4, "max_steps": 10_000, "solver": "dopri5"}
    said = counts(made(composer, "tolerance=1e-4", f"solver.{word}"))
    assert said == counts(engine.solve, **tolerances, **SAID[word])
    assert said != counts(engine.solve, **tolerances)


def test_the_gains_of_a_named_controller_are_that_controller(composer):
    gains = CONTROLLERS["PID"].integral, CONTROLLERS["PID"].proportional, CONTROLLERS["PID"].derivative
    solve = made(composer, f"solver.controller=[{','.join(map(str, gains))}]")
    assert solve.controller == CONTROLLERS["PID"]


@pytest.mark.parametrize("name", [name for name, info in SOLVERS.items() if info.adaptive])
def test_a_solver_follows_the_controller_unless_it_has_its_own(name):
    keywords = {"solver": name, "rtol": 1e-4, "atol": 1e-4, "gradient": "adjoint", "max_steps": 1000}
    changed = counts(engine.solve, **keywords) != counts(engine.solve, **keywords, controller="PI")
    assert changed == ("controller" not in OWN_CONTROL.get(name, ()))


REFUSED = {
    "solver=rk4 solver.controller=PI": "solver.controller is for adaptive steps, and fixed ones were chosen",
    "solver.dt=0.1 solver.max_step=0.5": "solver.max_step is for adaptive steps",
    "solver=bdf solver.controller=PID gradient=checkpointed": "solver=bdf controls its steps in its own way",
    "solver=scipy solver.norm=max": "leave solver.norm out",
    "solver.per_sample=true solver=adams gradient=checkpointed": "takes Runge-Kutta and Rosenbrock methods",
    "solver.per_sample=true gradient=interpolated": "gradient 'interpolated' has one time for all samples",
    "solver.per_sample=true solver.compile=true": "has no compiled steps",
    "solver.per_sample=true regularizer=kinetic": "regularizer=kinetic is integrated with one time for all",
    "solver.norm=max regularizer=kinetic": "regularizer=kinetic has a norm of its own",
    "solver.controller=PIX": "one of I, PI, PID, not 'PIX'; did you mean 'PI'?",
    "solver.controller=[1,2,3,4]": "a list of one to three numbers, not [1, 2, 3, 4]",
    "solver.max_step=0": "solver.max_step must be a number above 0, not 0",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_a_solver_cannot_use_is_refused(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *line.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and REFUSED[line] in err and not list(tmp_path.iterdir())
