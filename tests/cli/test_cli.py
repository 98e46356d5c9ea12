"""The command line: what is wrong with it is one sentence and status 2, and nothing is left behind."""

import json
import logging
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from noderun.cli.main import main
from noderun.cli.planning import make_job
from noderun.cli.tasks import train
from noderun.cli.tasks.job import JobRunner
from noderun.cli.tasks.list import answer
from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.config.user_code import search_in
from noderun.config.validation import ConfigError
from noderun.ode.solvers import StepLimit
from noderun.record import run_folder
from noderun.training import build
from noderun.training.compatibility import check

WRONG = {
    "trian": ["no task 'trian'", "did you mean 'train'?"],
    "train solver=dopri": ["no solver 'dopri'", "did you mean 'dopri5'?"],
    "train model=odenett": ["no model 'odenett'", "did you mean 'odenet'?"],
    "train model=ODENet": ["no model 'ODENet'; did you mean 'odenet'?"],
    "train solver=DOPRI5": ["did you mean 'dopri5'?"],
    "train experiment=Table1": ["did you mean 'chen2018/table1'?"],
    "train tol=1e-3": ["did you mean 'tolerance'?"],
    "train method=rk4": ["did you mean 'solver'?"],
    "train batch_size=3": ["did you mean 'data.batch_size'?"],
    "train optimizer.learning_rate=0.1": ["did you mean 'optimizer.lr'?"],
    "train optimizer.foo=0.1": ["no setting 'optimizer.foo'; optimizer has", "lr", "weight_decay"],
    "train tolerance=inf": ["tolerance must be a finite number, not inf"],
    "train experiment=chen2018/mnst": ["no experiment 'chen2018/mnst'", "did you mean 'chen2018/mnist'?"],
    "train solvr=dopri5": ["no setting 'solvr'", "did you mean 'solver'?"],
    "train +solvr=dopri5": ["no setting 'solvr'", "did you mean 'solver'?"],
    "train ++solver.rtoll=1e-3": ["no setting 'solver.rtoll'", "did you mean 'solver.rtol'?"],
    "train solver.rtoll=1e-3": ["no setting 'solver.rtoll'", "did you mean 'solver.rtol'?"],
    "train +solver.options.rtol=1e-3": ["no setting 'solver.options.rtol'", "did you mean 'solver.rtol'?"],
    "train trainer.epochs.most=3": ["no setting 'trainer.epochs.most'"],
    "train epochs=3": ["did you mean 'trainer.epochs'?"],
    "train model.blocks=3": ["no setting 'model.blocks' with this model", "model=ffjord, hamiltonian, linear_cde and"],
    "train solver=radau5 solver.compile=true": ["no setting 'solver.compile' with this solver", "others have it"],
    "train ~solver.rtoll": ["solver.rtoll"],
    "train +model=resnet": ["already exists", "leave the + out"],
    "train solver=null": ["no solver 'null'"],
    "train trainer=5": ["no trainer '5'", "default"],
    "train odenet": ["cannot read 'odenet'", "key=value"],
    "train model=[": ["cannot read 'model=['"],
    "train problem=kepler": ["train takes no problem", "did you mean `noderun integrate problem=kepler`?"],
    "integrate model=resnet": ["integrate takes no model", "did you mean `noderun train model=resnet`?"],
    "sweep problem=kepler,lorenz": ["sweep takes no problem", "`noderun integrate problem=kepler`"],
    "train model.objective=densty": ["model.objective must be one of classify, regress, sign, density", "not 'densty'"],
    "train trainer.epochs=abc": ["trainer.epochs must be a whole number from 1, not 'abc'"],
    "train trainer.epochs=1.5": ["trainer.epochs must be a whole number"],
    "train trainer.epochs=0": ["trainer.epochs must be a whole number from 1, not 0"],
    "train data.batch_size=0": ["data.batch_size must be a whole number from 1"],
    "train data.augment=maybe": ["data.augment must be true or false"],
    "train tolerance=-1e-3": ["tolerance must be", "not -0.001"],
    "train tolerance=1e-9": ["float32"],
    "train tolerance=nan": ["tolerance must be"],
    "train gradient.rtol=1e-12": ["gradient.rtol must be", "float32"],
    "train tolerance=${foo}": ["tolerance", "foo"],
    "train seed=-1": ["seed must be"],
    "train log=lively": ["log must be one of live, plain, quiet", "did you mean 'live'?"],
    "train device=gpu": ["device must be auto, cpu, cuda"],
    "train name=a/b": ["name must be"],
    "train model.stem=cnov": ["model.stem must be one of", "did you mean 'conv'?"],
    "train optimizer=sgd optimizer.momentum=1": ["optimizer.momentum must be"],
    "train optimizer.betas=0.9": ["optimizer.betas must be a list"],
    "train model.uses=[]": ["model.uses", "choose another model"],
    "train solver.name=euler": ["solver.name", "choose another solver"],
    "train solver=euler,rk4": ["several values", "noderun sweep"],
    "train --cfg job tolerance=1,2": ["give tolerance one value"],
    "train --cgf job": ["no flag '--cgf'", "did you mean '--cfg'?"],
    "train --config-dir nowhere": ["no folder", "nowhere"],
    "train device=cuda:99": ["cuda", "device=cpu"],
    "train solver=rk4 solver.dt=null": ["solver=rk4 takes fixed steps only", "solver.dt=0.1"],
    "train solver=rk4 solver.rtol=1e-3": ["solver.rtol was given", "have no tolerance"],
    "train gradient=backprop gradient.rtol=1e-3": ["gradient.rtol was given", "forward solve's own steps"],
    "train model=rknet solver=dopri5": ["model=rknet takes fixed steps only"],
    "train model=plain data=moons": ["model=plain takes image data", "data=moons is vector"],
    "train model=neural_pde data.viscosity=1e-4": ["data.viscosity=0.0001", "data.points=160", "5000 points"],
    "train model=neural_pde data.unroll=60": ["data.unroll=60", "at most data.steps=50"],
    "train model=neural_pde data.points=8": ["data.points must be a whole number from 16"],
    "train model=neural_pde data.dt=0": ["data.dt must be a number above 0"],
    "sweep tolerance=1e-1,-1": ["tolerance must be", "not -1"],
    "sweep solver=rk4,dopri": ["no solver 'dopri'"],
    "sweep trainer.epochs=1,2": ["trainer.epochs cannot have several values"],
    "sweep device=cpu,cuda": ["device cannot have several values"],
    "sweep model=rknet solver=dopri5,tsit5": ["model=rknet takes fixed steps only"],
    "train -m solver=rk4 seed=0,1 solver.rtol=1e-3": ["have no tolerance"],
    "compare model=odenet,resnet model.blokcs=3": ["no setting 'model.blokcs'"],
    "list solvr": ["no group 'solvr'", "did you mean 'solver'?"],
    "list solver=dopri": ["no solver 'dopri'"],
    "data check mnsit": ["did you mean 'mnist'?"],
    "runs epochs": ["expected key=value"],
    "train --resolve": ["--resolve says how --cfg shows", "--cfg job"],
    "train --package data": ["--package says how --cfg shows", "--cfg job"],
    "train --cfg job --info all": ["--cfg and --info each show something"],
    "train --help --hydra-help": ["each show something"],
    "train --cfg x": ["--cfg shows job, hydra or all, not 'x'"],
    "train --info=x": ["--info shows all, config,", "not 'x'"],
    "train --help=x": ["--help takes no word, not 'x'"],
    "train --cfg job -p solvr": ["--cfg job has no 'solvr'", "did you mean 'solver'?"],
    "train --cfg hydra -p solver": ["--cfg hydra has no 'solver'"],
    "train --model odenet": ["no flag '--model'", "a setting has no dashes: model=odenet"],
    "train --seed=3": ["a setting has no dashes: seed=3"],
    "train optimizer.lr=interval(0.1,1)": ["several values"],
    "sweep optimizer.lr=interval(0.1,1)": ["optimizer.lr=interval(0.1,1) has values without end"],
    "sweep model=glob(nothing*)": ["nothing to run"],
    "sweep seed=range(3,3)": ["nothing to run"],
    "sweep seed=range(1,9,0)": ["must not be zero"],
    "train hydra.sweep.subdir=choice(a,b)": ["hydra.sweep.subdir is not to be set here", "hydra.run.dir"],
    "sweep hydra.sweep.dir=a,b": ["hydra.sweep.dir cannot have several values"],
    "train hydra.launcher._target_=os.system": ["hydra.launcher._target_ is not to be set here"],
    "train ~hydra.verbose": ["hydra.verbose cannot be taken away"],
    "train hydra.foo=1": ["hydra.foo is not to be set here"],
    "train hydra.launcher.foo=1": ["no setting 'hydra.launcher.foo'"],
    "train hydra/launcher=bsic": ["no hydra/launcher 'bsic'", "did you mean 'basic'?"],
    "train hydra/launcher=null": ["no hydra/launcher 'null'"],
    "sweep seed=0,1 hydra/launcher=submitit_slurm hydra.launcher.partion=gpu": [
        "did you mean 'hydra.launcher.partition'?"
    ],
    "sweep seed=0,1 hydra/launcher=submitit_slurm hydra.launcher.timeout_min=soon": [
        "hydra.launcher.timeout_min",
        "'soon'",
    ],
    "sweep seed=0,1 hydra/launcher=joblib hydra.launcher.n_jobs=all": ["hydra.launcher.n_jobs", "'all'"],
    "sweep hydra/sweeper=optuna": ["hydra/sweeper is not to be set here"],
    "evaluate run=x hydra.mode=RUN": ["hydra.mode is not to be set here"],
    "integrate hydra.run.dir=/proc/x": ["/proc is not a folder that can be written to", "hydra.run.dir=FOLDER"],
    "train hydra.run.dir=${foo}": ["hydra.run.dir", "foo"],
    "train ~solver": ["solver cannot be taken away"],
    "train ~optimizer.lr": ["optimizer.lr cannot be taken away"],
    "train solver=../model/resnet": ["no solver '../model/resnet'"],
    "train =dopri5": ["cannot read '=dopri5'"],
    "train trainer.precision=float16": ["one of float32, tf32, bf16, not 'float16'\n"],
    "train data=mnist data.root=/nowhere data.download=false": ["in /nowhere/MNIST/raw", "noderun data fetch mnist"],
    "train data=cifar10 data.root=/nowhere data.download=false": ["in /nowhere", "noderun data fetch cifar10"],
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder; what Hydra does to the process is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "path", list(sys.path))
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield tmp_path
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def trained(monkeypatch):
    """The settings of the runs that were trained; training itself is left out."""
    seen = []

    def train_run(settings, folder, callbacks):
        seen.append(settings)
        if settings.seed == 7:
            raise StepLimit("10 steps did not reach the end; try solver.max_steps=100", 0.5, 10)
        if settings.seed == 8:
            raise KeyError("a bug")
        if settings.seed == 9:
            raise KeyboardInterrupt
        run_folder.write_json(
            folder / "result.json", {"epochs": settings.trainer.epochs, "steps": 5, "test_error": 0.5}
        )

    monkeypatch.setattr(build, "train_run", train_run)
    return seen


def noderun(line):
    return main(line.split())


def status(folder):
    return json.loads((Path(folder) / "status.json").read_text())


@pytest.mark.parametrize("line", WRONG)
def test_wrong_words_are_one_sentence_and_leave_nothing(line, here, capsys):
    assert noderun(line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1 and err.startswith("noderun: ")
    for words in WRONG[line]:
        assert words in err
    assert not list(here.iterdir())


def test_an_absent_data_folder_is_one_sentence(here, capsys):
    assert noderun("data check mnist data.root=nowhere") == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and "nowhere" in err and "noderun data fetch mnist" in err


def test_outputs_that_cannot_be_written(here, capsys):
    (here / "outputs").write_text("a file stands in the way")
    assert noderun("train model=stem") == 2
    assert "outputs is not a folder that can be written to" in capsys.readouterr().err


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


def test_an_option_of_a_group_that_takes_no_class(here, capsys):
    (here / "own/optimizer").mkdir(parents=True)
    (here / "own/optimizer/mine.yaml").write_text("name: mine\nclass: optimizers_of_mine:Mine\n")
    assert noderun("train optimizer=mine --config-dir own") == 2
    takers = "data, model, dynamics, solver, regularizer, problem"
    assert capsys.readouterr().err == f"noderun: optimizer takes no class: of your own, only {takers} do\n"


NETS = """
import torch

class NoModule:
    def __init__(self, state_shape): pass
    def forward(self, t, y): return y

class NoForward(torch.nn.Module):
    def __init__(self, state_shape): pass

class NoTime(NoForward):
    def forward(self, y): return y

class Asks(NoForward):
    def __init__(self, state_shape, width): pass
    def forward(self, t, y): return y

class Good(NoForward):
    def forward(self, t, y, scale=1): return scale * y

number = 3

def takes_nothing(): pass
"""
MISFITS = {
    "NoModule": "class: misfits:NoModule must be a torch.nn.Module with forward(t, y)",
    "NoForward": "class: misfits:NoForward must be a torch.nn.Module with forward(t, y)",
    "NoTime": "forward(t, y): too many positional arguments",
    "Asks": "class: misfits:Asks is called as Asks(state_shape): missing a required argument: 'width'",
    "Good\nspeed: 1": "class: misfits:Good is called as Good(state_shape, speed): got an unexpected keyword",
    "number": "class: misfits:number must be a class or a function, called as number(state_shape)",
    "takes_nothing": "is called as takes_nothing(state_shape): too many positional arguments",
}


@pytest.mark.parametrize("option", MISFITS)
def test_own_code_that_does_not_fit_is_one_sentence(option, here, capsys):
    (here / "own/dynamics").mkdir(parents=True)
    (here / "own/misfits.py").write_text(NETS)
    (here / "own/dynamics/good.yaml").write_text("name: good\nclass: misfits:Good\n")
    (here / "own/dynamics/mine.yaml").write_text(f"name: mine\nclass: misfits:{option}\n")
    composer = Composer("train", [str(here / "own"), str(config_folder())])
    search_in([str(here / "own")])
    check(make_job(composer, ["dynamics=good"]).settings, frozenset())
    with pytest.raises(ConfigError, match=re.escape(MISFITS[option])):
        check(make_job(composer, ["dynamics=mine"]).settings, frozenset())


@pytest.mark.parametrize("group", ["data", "model", "dynamics", "regularizer", "optimizer", "scheduler"])
def test_a_key_that_an_own_option_gives_to_one_of_ours_in_vain(group, here, capsys):
    name = {"data": "digits", "optimizer": "sgd", "scheduler": "cosine", "regularizer": "kinetic"}.get(group, "mlp")
    (here / f"own/{group}").mkdir(parents=True)
    shipped = answer(f"{group}={name}", [config_folder()])
    (here / f"own/{group}/mine.yaml").write_text(f"{shipped}\nfoo: 1\n")
    assert noderun(f"train {group}=mine --config-dir own") == 2
    out, err = capsys.readouterr()
    assert "unexpected keyword argument 'foo'" in err and f"{group}={name}" in err and err.count("\n") == 1


def test_own_options_and_classes(here, trained, capsys):
    own = here / "own"
    (own / "dynamics").mkdir(parents=True)
    (own / "solver").mkdir()
    (own / "dynamics/swirl.yaml").write_text("name: swirl\nclass: fields_of_mine:Swirl\nspeed: 2.0\n")
    (own / "solver/rk4.yaml").write_text("name: rk4\nrtol: 1e-3\natol: 1e-3\ndt: 0.5\nmax_steps: 99\n")
    net = "import torch\nclass Swirl(torch.nn.Module):\n    def __init__(self, state_shape, speed):\n        pass\n"
    (own / "fields_of_mine.py").write_text(f"{net}    def forward(self, t, y):\n        return y\n")
    line = "train dynamics=swirl dynamics.speed=3 solver=rk4 --config-dir own"
    assert noderun(line) == 0
    out, err = capsys.readouterr()
    assert "rk4.yaml is used in place of ours" in err
    (settings,) = trained
    assert settings.dynamics.user_class == "fields_of_mine:Swirl" and settings.dynamics.options == {"speed": 3.0}
    assert settings.solver.dt == 0.5
    with (own / "fields_of_mine.py").open("a") as file:
        file.write("    better = True\n")
    assert noderun(line) == 0
    assert capsys.readouterr().out.splitlines()[-1] != out.splitlines()[-1]  # other source, other run
    assert noderun(line + " dynamics.sped=3") == 2
    assert "did you mean 'dynamics.speed'?" in capsys.readouterr().err
    (own / "dynamics/swirl.yaml").write_text("name: swirl\nclass: fields_of_mine:Swril\n")
    assert noderun("train dynamics=swirl --config-dir own") == 2
    assert "did you mean 'Swirl'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "seconds"), [([], 0.2), (["--help"], 0.2), (["trian"], 0.2), (["train", "--help"], 2)]
)
def test_help_answers_at_once(words, seconds, here):
    """The bound is generous, for machines that do much else; what really counts is that nothing heavy is imported."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "noderun", *words], capture_output=True, text=True, check=False
    )
    assert time.perf_counter() - start < 5 * seconds + 1
    heavy = {"torch"} if seconds > 1 else {"torch", "hydra", "omegaconf", "rich", "yaml"}
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & heavy
    if words != ["trian"]:
        task = words[0] if len(words) > 1 else "TASK"
        assert done.returncode == 0 and done.stdout.startswith(f"usage: noderun {task} [")


@pytest.fixture
def composed(monkeypatch):
    """One entry per composition, noderun's own and Hydra's."""
    found = []
    load = ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", lambda *a, **k: found.append(k) or load(*a, **k))
    return found


@pytest.mark.parametrize(
    ("line", "times"),
    [
        ("train model=stem solver=rk4", 1 + 2),  # the plan's, and Hydra's own
        ("train model=stem seed=1", 2 + 2),  # and the defaults, from which the seed differs
        ("sweep model=stem seed=0,1,2", 3 + 1 + 2 + 3),  # Hydra composes each job
    ],
)
def test_a_job_is_composed_once_by_us(line, times, here, trained, composed):
    assert noderun(line) == 0
    assert len(composed) == times


def test_help_composes_what_it_shows_once(here, composed, capsys):
    assert noderun("train --help") == 0
    assert len(composed) == 1
    shown = capsys.readouterr().out
    assert "solver: adams, " in shown and "chen2018/mnist" in shown and "  rtol: ${tolerance}" in shown
    assert noderun("train --help --resolve") == 0 and "  rtol: 0.001" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("noderun ", {"train", "sweep"}),
        ("noderun tr", {"train"}),
        ("noderun train solver=dop", {"solver=dopri5"}),
        ("noderun train solver.rt", {"solver.rtol="}),
        ("noderun sweep solver=dopri5,ts", {"solver=dopri5,tsit5"}),
        ("noderun train --c", {"--cfg", "--config-dir"}),
        ("noderun train trainer.precision=b", {"trainer.precision=bf16"}),
        ("noderun train solver=rk4 solver.com", {"solver.compile="}),
        ("noderun train experiment=chen2018/t", {"experiment=chen2018/table1"}),
        ("noderun evaluate run=ru", {"run=runs/"}),
        ("noderun evaluate fig", {"figures="}),
        ("noderun list solver=dopri", {"solver=dopri5", "solver=dopri8"}),
        ("noderun data fetch mnist5", {"mnist5k"}),
        ("noderun train --config-dir mine data=", {"data=own", "data=moons"}),
    ],
)
def test_completion(line, expected, here, monkeypatch, capsys):
    (here / "runs").mkdir()
    (here / "mine/data").mkdir(parents=True)
    (here / "mine/data/own.yaml").touch()
    monkeypatch.setenv("COMP_LINE", line)
    assert noderun("-sc query=bash") == 0
    found = capsys.readouterr().out.split()
    assert expected <= set(found) and all(word.startswith(line.rpartition(" ")[2]) for word in found)


@pytest.mark.parametrize(
    ("task", "told", "not_told"),
    [
        ("train", ["usage: noderun train [KEY", "training examples only", "--multirun"], ["problem:"]),
        ("sweep", ["usage: noderun sweep", "tolerance=1e-1,1e-2,1e-3,1e-4"], ["problem:", "--multirun"]),
        ("compare", ["usage: noderun compare", "model=resnet,rknet,odenet,mlp"], ["lab:"]),
        (
            "evaluate",
            ["usage: noderun evaluate run=FOLDER", "solver.dt=0.1", "lesion: null"],
            ["model:"],
        ),
        ("integrate", ["usage: noderun integrate", "problem: arenstorf", "t1: null"], ["model:", "--multirun"]),
        ("bench", ["usage: noderun bench", "solve, gradient, training, startup, memory"], ["model:", "lab:"]),
    ],
)
def test_each_task_has_its_own_help(task, told, not_told, here, capsys):
    assert noderun(f"{task} --help") == 0
    shown = capsys.readouterr().out
    assert all(words in shown for words in told), shown
    assert not any(f"  {words}" in shown for words in not_told)


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


def test_completion_can_be_installed(here, capsys):
    assert noderun("-sc install=bash") == 0
    assert "complete" in capsys.readouterr().out


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


def test_words_that_are_given_twice_or_in_vain_are_said(here, trained, capsys):
    (here / "empty").mkdir()
    assert noderun("train seed=0 seed=1 model=stem solver=rk4 --config-dir empty log=quiet") == 0
    assert trained[-1].seed == 1
    told = capsys.readouterr().err
    assert "solver changes nothing: model=stem has no solver" in told
    assert "seed is given more than once: seed=1 counts" in told
    assert "--config-dir changes nothing" in told and "holds no option" in told
