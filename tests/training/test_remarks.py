"""Right words that change nothing are said before a run starts; what cannot be carried out is refused there."""

import re

import pytest

from noderun.cli.launching import placed_in
from noderun.cli.planning import plan
from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.training import cost

SAID = {
    "model=resnet solver=rk4": "solver changes nothing: model=resnet has no solver",
    "model=resnet solver.rtol=1e-3": "solver.rtol changes nothing",  # its default, given all the same
    "model=resnet regularizer=kinetic": "regularizer changes nothing",
    "model=resnet tolerance=1e-2": "tolerance changes nothing: model=resnet has no solver",
    "solver.dt=0.1 tolerance=1e-2": "tolerance changes nothing: steps are fixed (solver.dt=0.1)",
    "model=mlp trainer.diagnostics_every=1": "trainer.diagnostics_every changes nothing: model=mlp has no solve",
    "trainer.epochs=3 scheduler.horizon=2": "goes on past scheduler.horizon=2: scheduler=one_cycle",
    "solver=euler solver.dt=5": "solver.dt=5 is longer than model.t1=1: a solve is one step of length 1",
    "data=moons data.examples=9 data.batch_size=10": "data.batch_size=10 is more than there is: a step takes all 9",
    "data.limit=64 data.batch_size=65": "a step takes all 64 examples",
    "name=foo": "name changes nothing",
    "-m model=resnet,mlp solver=rk4": "solver changes nothing",
    "-m seed=3": "the task's own grid is run: tolerance=1e-1,1e-2,1e-3,1e-4",
}
SILENT = [
    "solver=rk4",
    "tolerance=1e-2 trainer.diagnostics_every=1 trainer.epochs=3",
    "model=resnet regularizer=none trainer.diagnostics_every=1",
    "trainer.epochs=3 scheduler=constant",
    "solver=euler solver.dt=1 data.limit=64 data.batch_size=64",
    "data.limit=64",  # the batch size is the option's own
    "-m model=resnet,odenet solver=rk4",  # one of the models has a solver
]
SMALL = "model.stem=linear model.width=8 dynamics=mlp data=digits data.limit=20 data.batch_size=10"
REFUSED = {
    "solver=leapfrog": "use model=.*hamiltonian_nn",
    f"{SMALL} gradient=forward": r"would carry \d+ tangents.*use gradient=checkpointed",
    "trainer.patience=2": "data=mnist5k has none: give data.validation=0.1",
}


def plan_of(line):
    words = line.split()
    multirun = words[0] == "-m"
    task = "sweep" if multirun else "train"
    return plan(Composer(task, [config_folder()]), words[multirun:], multirun)


def planned(line):
    (*_, job) = plan_of(line).jobs
    return job


@pytest.mark.parametrize("line", SAID)
def test_what_changes_nothing_is_said(line):
    found = plan_of(line)
    assert not any(job.refusal for job in found.jobs)
    assert len(found.remarks) == 1 and SAID[line] in found.remarks[0]


@pytest.mark.parametrize("line", SILENT)
def test_what_a_run_uses_is_not(line):
    assert plan_of(line).remarks == []


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_carried_out_is_refused_before(line, tmp_path):
    job = planned(line)
    refusal = job.refusal or placed_in(tmp_path / "run", job).refusal
    assert refusal is not None and re.search(REFUSED[line], refusal)
    assert not list(tmp_path.iterdir())


def test_the_matrices_of_an_implicit_step_are_weighed_before(tmp_path, monkeypatch, capsys):
    job = planned(f"{SMALL} solver=radau5")
    assert placed_in(tmp_path, job).refusal is None and capsys.readouterr().err == ""
    monkeypatch.setattr(cost, "MANY", 8)
    assert placed_in(tmp_path, job).refusal is None
    assert "solver=radau5 is implicit: a Jacobian is 8 vector-Jacobian products" in capsys.readouterr().err
    monkeypatch.setattr(cost.os, "sysconf", lambda name: 10)
    assert "use an explicit solver" in placed_in(tmp_path, job).refusal


def test_few_parameters_may_have_tangents(tmp_path):
    job = planned("data=moons model.stem=none dynamics=mlp dynamics.hidden=2 gradient=forward data.limit=20")
    assert job.refusal is None and placed_in(tmp_path, job).refusal is None
