"""`noderun integrate` as its user meets it, and its config files."""

import json
from pathlib import Path

import pytest
import yaml

from noderun.cli.main import main
from noderun.cli.tasks.integrate import make_job
from noderun.config.compose import Composer
from noderun.lab.problems import PROBLEMS
from noderun.lab.settings import LABS
from noderun.record import files

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def composer():
    return Composer("integrate", [str(CONFIGS)])


def test_every_problem_and_lab_has_its_file_and_says_what_it_is():
    assert {path.stem for path in (CONFIGS / "problem").glob("*.yaml")} == set(PROBLEMS)
    assert {path.stem for path in (CONFIGS / "lab").glob("*.yaml")} == set(LABS)
    for path in [*(CONFIGS / "problem").glob("*.yaml"), *(CONFIGS / "lab").glob("*.yaml")]:
        rows = path.read_text().splitlines()
        assert any(row.startswith("# ") and "@package" not in row for row in rows), path


@pytest.mark.parametrize("name", PROBLEMS)
def test_problem_files_say_the_defaults(name):
    options = yaml.safe_load((CONFIGS / "problem" / f"{name}.yaml").read_text())
    assert options.pop("name") == name and options.pop("t1") is None
    assert PROBLEMS[name](**options).y0 == PROBLEMS[name]().y0


@pytest.mark.parametrize("name", LABS)
def test_lab_files_say_the_defaults(name, composer):
    job = make_job(composer, [f"lab={name}"])
    assert job.settings.lab == LABS[name]()
    assert job.run_id.startswith("lotka" if name == "trajectory" else name)


def test_a_solver_that_is_chosen_is_the_one_that_the_lab_takes(composer):
    assert make_job(composer, ["lab=order", "solver=rk4"]).settings.lab.solvers == ("rk4",)
    assert make_job(composer, ["lab=order"]).settings.lab.solvers is None


def test_integrate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["integrate", "problem=exponential", "solver=tsit5", "tolerance=1e-6", "log=quiet"]
    assert main(words) == 0
    *_, drawn, last = capsys.readouterr().out.splitlines()
    folder = Path(last)
    assert folder.parent == tmp_path / "outputs" / "integrate"
    assert drawn == f"One solve, step by step, beside the reference: {folder}/figures/trajectory.png"
    result = json.loads((folder / "result.json").read_text())
    assert result["numerical_error"] < 1e-4 and result["nfe_forward"] > 6 and result["bits_per_dim"] is None
    assert json.loads((folder / "status.json").read_text())["status"] == "done"
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "<h1>trajectory of exponential, tsit5</h1>" in page
    assert "Trajectory (numbers: figures/trajectory.csv)" in page
    assert page.count("data:image/png;base64,") == 1 and "noderun integrate problem=exponential" in page
    assert all(files.is_ours(path.name) for path in folder.iterdir())
    assert {path.name for path in (folder / "figures").iterdir()} == {"trajectory.png", "trajectory.csv"}
    before = (folder / "result.json").stat().st_mtime_ns
    assert main(words) == 0  # the same words, the same folder, nothing done twice
    assert (folder / "result.json").stat().st_mtime_ns == before


def test_a_solve_that_fails_ends_with_one_and_its_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["integrate", "problem=rober", "solver.max_steps=20", "log=quiet"]) == 1
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    assert "stiff" in json.loads((folder / "status.json").read_text())["error"]


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["problem=lotka_voltera"], "did you mean 'lotka_volterra'?"),
        (["lab=ordr"], "did you mean 'order'?"),
        (["problem.mu=3"], "no setting 'problem.mu'"),
        (["+problem.mu=3"], "no setting 'problem.mu'"),
        (["problem.name=kepler"], "cannot be set; choose another problem"),
        (["solver=rk4,dopri5"], "lab=work_precision compares solvers"),
        (["solver=leapfrog"], "needs a state (q, p)"),
        (["solver=dopri5", "tolerance=1e-20"], "float64"),
        (["lab=order", "lab.solvers=[rk5]"], "did you mean 'rk4'?"),
        (["lab=steps", "problem=kepler"], "direction field of one equation"),
        (["lab=stability", "lab.a=[[],[1]]"], "give lab.b too"),
        (["lab=stability", "lab.alpha=[1,-1]"], "go together"),
        (["problem.t1=-1"], "must be above 0"),
        (["lab=order", "lab.steps=[]"], "lab.steps must be a list of two numbers or more, not []"),
        (["lab=order", "lab.steps=[4]"], "lab.steps must be a list of two numbers or more"),
        (["lab=work_precision", "lab.tolerances=[]"], "lab.tolerances must be a list of at least one"),
        (["lab=gradient", "lab.cases=[]"], "lab.cases must be a list of at least one"),
        (["lab=gradient", "lab.gradients=[]"], "lab.gradients must be a list of at least one"),
        (["lab=stability", "lab.solvers=[]"], "lab.solvers must be a list of at least one"),
        (["problem=kepler", "problem.eccentricity=1.5"], "from 0 up to, not including, 1"),
    ],
)
def test_wrong_words_are_found_before_anything_starts(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["integrate", *words]) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err and len(captured.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["name: mine", "name: mine\nclass: parts:Mine"])
def test_an_own_problem_is_refused(option, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine/problem").mkdir(parents=True)
    (tmp_path / "mine/problem/mine.yaml").write_text(option)
    monkeypatch.chdir(tmp_path)
    assert main(["integrate", "--config-dir", "mine", "problem=mine"]) == 2
    err = capsys.readouterr().err
    assert ("takes no class" if "class" in option else "no problem 'mine'") in err and err.count("\n") == 1
