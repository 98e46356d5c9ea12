"""The runs and grids of command lines: their folders, their states, what a second start does."""

import json
import pickle
import re
from pathlib import Path

import pytest
from lines import noderun, status

from noderun.cli.main import main
from noderun.cli.planning import make_job
from noderun.cli.tasks import train
from noderun.cli.tasks.job import JobRunner
from noderun.config import config_folder
from noderun.config.compose import Composer


def test_a_run_ends_with_its_folder_and_is_skipped_when_done(here, trained, capsys):
    for times in range(2):
        assert noderun("train -p data seed=1 --cfg job") == 0  # flags and words in any order
        assert "outputs" not in capsys.readouterr().out
        assert noderun("train seed=1 model=stem") == 0
        out, err = capsys.readouterr()
        folder = Path(out.splitlines()[-1])
        assert folder.is_absolute() and folder.parent == here / "outputs/train"
        assert status(folder)["status"] == "done"
        assert ("is done already" in err) == (times == 1)
    assert len(trained) == 1
    assert "${" not in (folder / ".hydra/config.yaml").read_text()
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["seed"] == 1 and environment["versions"]["torch"]


def test_more_epochs_go_on_fewer_are_skipped_fresh_starts_over(here, trained, capsys):
    for words, times in {"trainer.epochs=4": 1, "trainer.epochs=2": 1, "trainer.epochs=6": 2, "fresh=true": 3}.items():
        assert noderun(f"train model=stem scheduler=constant {words}") == 0
        assert len(trained) == times
    assert len(list((here / "outputs/train").iterdir())) == 1


@pytest.mark.parametrize(("seed", "code", "state"), [(7, 1, "failed"), (8, 1, "failed"), (9, 130, "interrupted")])
def test_how_a_run_can_end(seed, code, state, here, trained, capsys):
    assert noderun(f"train model=stem seed={seed}") == code
    out, err = capsys.readouterr()
    (folder,) = out.splitlines()
    assert status(folder)["status"] == state
    if seed == 7:
        assert "try solver.max_steps=100" in status(folder)["error"] and "Traceback" not in err
        assert "try solver.max_steps=100" in " ".join(err.split())
    if seed == 8:
        assert "Traceback" in err and "Traceback" in (Path(folder) / "run.log").read_text()


@pytest.mark.parametrize(("file", "content"), [("status.json", '{"sta'), ("result.json", "[1]")])
def test_a_damaged_status_or_result_is_made_again(file, content, here, trained):
    assert noderun("train model=stem seed=1") == 0
    (folder,) = (here / "outputs/train").iterdir()
    (folder / file).write_text(content)
    assert noderun("train model=stem seed=1") == 0
    assert status(folder)["status"] == "done" and json.loads((folder / "result.json").read_text())["steps"] == 5


def test_a_damaged_run_is_told_kept_and_only_started_over_when_asked(here, trained, capsys):
    assert noderun("sweep model=stem seed=1,2 name=two") == 0
    folder = next((here / "outputs/sweep/two").glob("stem-*"))
    seed = status(folder)["identity"]["seed"]
    capsys.readouterr()
    file, content = "status.json", '{"sta'
    for name in (file, "environment.json"):  # each has the identity
        (folder / name).write_text(content)
    trained.clear()
    line = f"train model=stem seed={seed} hydra.run.dir={folder}"
    assert noderun(line) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and f"{file} is damaged" in err and "fresh=true starts over" in err
    assert (folder / file).read_text() == content
    assert noderun("sweep model=stem seed=1,2,3 name=two") == 1
    assert [settings.seed for settings in trained] == [3]
    rows = (here / "outputs/sweep/two/results.csv").read_text()
    assert "refused" in rows and "is damaged" in rows and (folder / file).read_text() == content
    assert noderun(f"{line} fresh=true") == 0 and status(folder)["status"] == "done"


def test_a_result_of_another_version_is_written_again(here, trained):
    for times in (1, 2):
        assert noderun("train model=stem") == 0 and len(trained) == times
        (folder,) = (here / "outputs/train").iterdir()
        (folder / "result.json").write_text('{"accuracy": 1}')


def test_a_given_folder_is_taken_and_never_shared(here, trained, capsys):
    assert noderun("train model=stem 'hydra.run.dir=a b'".replace("'", "")) == 2  # "b" is no setting
    assert main(["train", "model=stem", "hydra.run.dir='a b,c'"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(here / "a b,c")
    assert main(["train", "model=stem", "model.width=32", "seed=3", "hydra.run.dir='a b,c'"]) == 2
    assert "holds another run, which differs in model.width, seed" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["train model=stem fresh=true", "integrate fresh=true", "bench suite=solve"])
def test_starting_over_is_for_a_runs_folder(line, here, capsys):
    (here / "theirs").mkdir()
    (here / "theirs/thesis.tex").write_text("years of work")
    assert noderun(f"{line} hydra.run.dir=theirs") == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "theirs" in err and "is not empty" in err
    assert [path.name for path in here.rglob("*")] == ["theirs", "thesis.tex"]


def test_starting_over_leaves_what_a_user_put_beside_a_run(here, trained, capsys):
    line = "train model=stem hydra.run.dir=mine"
    assert noderun(line) == 0
    for name in ("notes.txt", "checkpoint.pt"):
        (here / "mine" / name).write_text("")
    assert noderun(f"{line} fresh=true") == 0 and len(trained) == 2
    assert (here / "mine/notes.txt").exists() and not (here / "mine/checkpoint.pt").exists()


def test_in_a_grid_the_folder_that_is_not_a_runs_is_a_refused_row(here, trained, capsys):
    assert noderun("sweep model=stem seed=1,2 name=two") == 0
    first = next((here / "outputs/sweep/two").glob("stem-*"))
    (first / "status.json").unlink()
    assert noderun("sweep model=stem seed=1,2 name=two fresh=true") == 1 and len(trained) == 3
    assert "is not empty" in capsys.readouterr().err and (first / "result.json").exists()


def test_a_grid_runs_what_can_run(here, trained, capsys):
    line = "sweep model=rknet solver=rk4,dopri5 seed=1,7"
    assert noderun(line) == 1
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    rows = (folder / "results.csv").read_text().splitlines()[1:]
    assert len(rows) == 4 and len(trained) == 2
    assert sum("refused" in row and "takes fixed steps only" in row for row in rows) == 2
    assert sum("failed" in row and "solver.max_steps=100" in row for row in rows) == 1
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 2
    assert noderun(line) == 1 and len(trained) == 3  # the done one is skipped, the failed one tried again
    assert capsys.readouterr().out.splitlines()[-1] == str(folder)


def test_jobs_that_come_out_equal_run_once(here, trained, capsys):
    assert noderun("sweep model=stem solver=rk4,dopri5 tolerance=1e-2,1e-3") == 0
    assert len(trained) == 1
    assert "3 of 4 jobs come out equal" in capsys.readouterr().err


def test_default_grids_apply_where_nothing_is_swept(here, trained, capsys):
    assert noderun("sweep name=mine") == 0
    assert [settings.solver.rtol for settings in trained] == [1e-1, 1e-2, 1e-3, 1e-4]
    assert capsys.readouterr().out.splitlines()[-1] == str(here / "outputs/sweep/mine")
    trained.clear()
    assert noderun("train -m seed=1,2") == 0
    assert [(settings.seed, settings.solver.rtol) for settings in trained] == [(1, 1e-3), (2, 1e-3)]


def test_a_grid_names_its_jobs_and_leaves_its_command_and_page(here, trained, capsys):
    assert noderun("sweep model=stem seed=1,2,3 optimizer.lr=0.01 name=three") == 0
    out, err = capsys.readouterr()
    said = re.findall(r"job (\d/3): (seed=\d)(, about \d+ s left)?", err)
    assert [(job, seed, bool(left)) for job, seed, left in said] == [
        ("1/3", "seed=1", False), ("2/3", "seed=2", True), ("3/3", "seed=3", True)
    ]  # fmt: skip
    assert "Launching" not in err
    folder = here / "outputs/sweep/three"
    assert out.splitlines()[-2:] == [f"report: {folder}/report.html", str(folder)]
    command = "noderun sweep model=stem seed=1,2,3 optimizer.lr=0.01 name=three"
    assert (folder / "command.txt").read_text() == f"{command}\n" and command in (folder / "report.html").read_text()
    assert {path.name[:-9] for path in folder.glob("stem-*")} == {
        f"stem-mnist5k-lr0.01-seed{seed}" for seed in (1, 2, 3)
    }
    log = next(folder.glob("*-seed2-*/run.log")).read_text()
    assert "INFO job 2/3: seed=2" in log


def test_compare_gives_a_key_to_the_models_that_have_it(here, trained, capsys):
    assert noderun("compare model=resnet,stem model.blocks=2") == 0
    assert [settings.model.options.get("blocks") for settings in trained] == [2, None]
    assert "model.blocks is not a setting of stem and is left out there" in capsys.readouterr().err


def test_quiet_is_quiet(here, trained, capsys):
    assert noderun("sweep model=stem seed=1,2 log=quiet") == 0
    assert capsys.readouterr().err == ""


def test_a_glob_is_a_grid_of_options(here, trained):
    assert noderun("sweep optimizer=glob(adam*) model=stem") == 0
    assert [settings.optimizer.name for settings in trained] == ["adam", "adamw"]


def test_a_done_run_is_skipped_although_its_data_have_gone(here, trained, monkeypatch, capsys):
    line = "train model=stem data=mnist data.root=gone data.download=false"
    monkeypatch.setattr("noderun.cli.launching.check_data", lambda settings: None)
    assert noderun(line) == 0
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert noderun(line) == 0 and "is done already" in capsys.readouterr().err
    assert noderun(f"{line} seed=1") == 2


def test_a_value_that_is_no_number_is_the_same_in_every_start(here, trained, capsys):
    (here / "own/data").mkdir(parents=True)
    (here / "own/data/mine.yaml").write_text("name: mine\nclass: nan_of_mine:f\nfill: null\nrange: [0, .inf]\n")
    (here / "own/nan_of_mine.py").write_text("def f(fill, range):\n    pass\n")
    for _ in range(2):
        assert noderun("train model=stem data=mine data.fill=nan --config-dir own hydra.run.dir=run") == 0
    assert len(trained) == 1 and "is done already" in capsys.readouterr().err
    assert trained[0].data.options["fill"] != trained[0].data.options["fill"]


def test_jobs_reach_another_process_as_they_were_planned(here):
    """As joblib's and Slurm's launchers hand the task function on."""
    composer = Composer("train", [config_folder()])
    job = make_job(composer, ["solver.controller=[0.3,0.4]", "model.objective=regress", "data=moons"])
    runner = JobRunner({here: job}, train.work, [str(here)])
    assert pickle.loads(pickle.dumps(runner)) == runner


def test_a_grid_in_processes_of_their_own(here, capsys):
    line = "sweep model=mlp model.hidden=4 data.limit=64 trainer.max_steps=1 trainer.epochs=1 seed=0,1 log=quiet"
    assert noderun(f"{line} hydra/launcher=joblib hydra.launcher.n_jobs=2 name=two") == 0
    assert [status(folder)["status"] for folder in (here / "outputs/sweep/two").glob("mlp-*")] == ["done", "done"]


def test_other_content_of_a_file_is_another_run_and_says_so(here, trained, capsys):
    (here / "mine/data").mkdir(parents=True)
    (here / "mine/data/rows.yaml").write_text("name: rows\nclass: row_sets:rows\npath: rows.csv\n")
    (here / "mine/row_sets.py").write_text("def rows(path): ...\n")
    line = "train data=rows model.objective=classify model.stem=none dynamics=mlp --config-dir mine log=quiet"
    (here / "rows.csv").write_text("1,2\n")
    assert noderun(line) == 0 and noderun(line) == 0 and len(trained) == 1
    first = Path(capsys.readouterr().out.splitlines()[-1])
    (here / "rows.csv").write_text("1,3\n")
    assert noderun(line) == 0 and len(trained) == 2
    told = capsys.readouterr()
    assert f"rows.csv has changed since {first.name}: a new run" in told.err
    assert Path(told.out.splitlines()[-1]) != first
    (here / "rows.csv").write_text("1,2\n")
    assert noderun(line) == 0 and len(trained) == 2
