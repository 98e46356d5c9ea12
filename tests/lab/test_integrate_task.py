"""`noderun integrate` as its user meets it, and its config files."""

import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import yaml
from test_extending import commands, write_files

from noderun.cli.main import main
from noderun.cli.tasks.integrate import make_job
from noderun.config.compose import Composer
from noderun.lab.problems import PROBLEMS
from noderun.lab.settings import LABS
from noderun.record import files
from noderun.report.folders import read_csv

CONFIGS = Path(__file__).parents[2] / "configs"
LAB_PAGE = CONFIGS.parent / "docs" / "lab.md"


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
        (["problem=kepler,pendulm"], "did you mean 'pendulum'?"),
        (["device=cpu,cuda"], "device cannot have several values"),
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


def test_a_grid_is_one_table_in_which_a_refused_job_has_its_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["integrate", "problem=exponential,pendulum", "solver=leapfrog,bosh3", "solver.dt=0.1", "log=quiet"]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert "solver=leapfrog needs a state (q, p), and exponential has none" in err
    folder = Path(out.splitlines()[-1])
    assert folder.parent == tmp_path / "outputs" / "integrate" and "bosh3" in out
    rows = read_csv(folder / "results.csv")
    assert [(row["problem"], row["solver"], row["status"]) for row in rows] == [
        ("exponential", "leapfrog", "refused"),
        ("exponential", "bosh3", None),
        ("pendulum", "leapfrog", None),
        ("pendulum", "bosh3", None),
    ]
    assert all(0 < row["error"] < 1 for row in rows[1:]) and len(list(folder.glob("*/figures/trajectory.png"))) == 3


def test_one_value_with_the_flag_of_a_grid_is_one_job(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["integrate", "-m", "problem=exponential", "log=quiet"]) == 0
    assert (Path(capsys.readouterr().out.splitlines()[-1]) / "result.json").is_file()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The folder with the example of docs/lab.md, and what its commands printed."""
    folder, outputs = tmp_path_factory.mktemp("page"), []
    write_files(folder, LAB_PAGE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        for _, *words in commands(LAB_PAGE):
            with redirect_stdout(io.StringIO()) as out:
                assert main(words) == 0
            outputs.append(out.getvalue())
    return outputs


def test_a_problem_of_ones_own_is_integrated_as_the_page_says(page):
    one, grid, order = (read_csv(Path(out.splitlines()[-1]) / "results.csv") for out in page)
    assert [row["problem"] for row in one] == ["brusselator"] and one[0]["reference"].startswith("scipy DOP853")
    assert [(row["problem"], row["tolerance"]) for row in grid] == [
        (problem, tolerance) for problem in ("brusselator", "lotka_volterra") for tolerance in (1e-4, 1e-6)
    ]
    assert grid[0]["error"] > 10 * grid[1]["error"] and grid[2]["error"] > 10 * grid[3]["error"]
    observed = {row["solver"]: row["observed order"] for row in order}
    assert observed == {"heun2": pytest.approx(2, abs=0.3), "rk4": pytest.approx(4, abs=0.3)}


OWN = {
    "no class": ("", "name: mine", "no problem 'mine'"),
    "no module": ("", "name: mine\nclass: nowhere:make", "no module 'nowhere'"),
    "another thing": ("def make(): return 3", "name: mine\nclass: own:make", "makes a int, not a noderun.lab.problems"),
    "an error": ("def make(): return 1 / 0", "name: mine\nclass: own:make", "raises ZeroDivisionError"),
    "a key too many": ("def make(): pass", "name: mine\nclass: own:make\na: 1", "unexpected keyword argument 'a'"),
    "another shape": (
        "from noderun.lab.problems import Problem\n"
        "def make(): return Problem('x', lambda t, y: y.sum(), (1.0, 2.0), (0.0, 1.0), 'me')",
        "name: mine\nclass: own:make",
        "f(t, y) must return a tensor as y is, float64 [2], not torch.float64 []",
    ),
}


@pytest.mark.parametrize("case", OWN)
def test_what_is_wrong_with_an_own_problem_is_said_before_anything_starts(case, tmp_path, monkeypatch, capsys):
    code, option, sentence = OWN[case]
    (tmp_path / "mine/problem").mkdir(parents=True)
    (tmp_path / "mine/problem/mine.yaml").write_text(option)
    (tmp_path / "mine/own.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["integrate", "--config-dir", "mine", "problem=mine"]) == 2
    err = capsys.readouterr().err
    assert sentence in err and err.count("\n") == 1 and not (tmp_path / "outputs").exists()
