"""Identity: what makes two command lines the same run."""

import os

import pytest

from noderun.cli.planning import make_job
from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.config.validation import ConfigError, flat
from noderun.record import files, run_folder
from noderun.record.run_identity import hyper_parameters

ONE = {
    "nothing said": ["", "solver=dopri5", "tolerance=1e-3", "tolerance=0.001", "optimizer.lr=3e-3", "trainer.epochs=8"],
    "how it is carried out": ["", "log=plain device=cpu name=x fresh=true", "data.root=elsewhere data.download=false"],
    "how often it is looked at": ["", "trainer.diagnostics_every=1 trainer.log_every=3 trainer.checkpoint_seconds=5"],
    "how far it goes": [
        "scheduler=constant",
        "scheduler=constant trainer.epochs=9",
        "scheduler=constant trainer.max_steps=9",
    ],
    "order": ["seed=1 model.width=32 solver=bosh3", "solver=bosh3 model.width=32 seed=1"],
    "groups not used": ["model=resnet", "model=resnet solver=euler gradient=backprop tolerance=1e-5"],
    "tolerances not read": ["solver=rk4", "solver=rk4 tolerance=1e-5"],
    "tolerance is rtol and atol": ["tolerance=1e-5", "solver.rtol=1e-5 solver.atol=1e-5"],
    "an experiment is its settings": ["experiment=smoke", "data=digits trainer.epochs=2 scheduler.horizon=2"],
}
DIFFERENT = [
    "",
    "seed=1",
    "tolerance=1e-5",
    "gradient.rtol=1e-2",
    "solver=tsit5",
    "solver.dt=0.1",
    "solver.dt=0.2",
    "data.limit=100",
    "model=resnet",
    "model.width=32",
    "trainer.epochs=5",  # the schedule ends there
    "trainer.precision=bf16",
    "regularizer=kinetic",
]


@pytest.fixture(scope="module")
def composer():
    return Composer("train", [config_folder()])


def run_id(composer, line):
    return make_job(composer, line.split()).run_id


@pytest.mark.parametrize("why", ONE)
def test_same_run(why, composer):
    assert len({run_id(composer, line) for line in ONE[why]}) == 1


def test_different_runs(composer):
    names = [run_id(composer, line) for line in DIFFERENT]
    assert len({name.rpartition("-")[2] for name in names}) == len(names)
    assert names[0].startswith("odenet-mnist5k-dopri5-tol0.001-adjoint-")
    assert all(len(name.rpartition("-")[2]) == 8 for name in names)


def test_a_setting_without_default_always_counts(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.yaml").write_text("name: mine\nclass: json:loads\npath: ???\n")
    composer = Composer("train", [tmp_path, config_folder()])
    assert run_id(composer, "data=mine data.path=a") != run_id(composer, "data=mine data.path=b")


def test_status_is_never_half_written(tmp_path, monkeypatch):
    run_folder.write_status(tmp_path, "running", {"seed": 1})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run_folder.write_status(tmp_path, "done", {"seed": 1})
    assert run_folder.read_status(tmp_path)["status"] == "running"


def test_differences_names_the_keys(tmp_path):
    assert run_folder.differences(tmp_path, {"seed": 1}) == []
    run_folder.write_status(tmp_path, "done", {"seed": 1, "model.name": "stem"})
    assert run_folder.differences(tmp_path, {"model.name": "stem", "solver.dt": 0.1}) == ["seed", "solver.dt"]


def test_flat_keeps_every_leaf():
    assert flat({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "d": [1]}


THEIRS = {
    "a file": ["thesis.tex"],
    "a folder": ["data/"],
    "a folder of a name that runs use": ["figures/"],
    "another program's status": ["status.json"],
    "another program of Hydra's": [".hydra/", "model.pt"],
}
NODERUN = {
    "nothing": [],
    "what a start makes before its status": [".hydra/", "run.log", ".lock"],
    "a run": [".hydra/", "status.json", "checkpoint.pt"],
    "a run with notes": [".hydra/", "status.json", "notes.txt"],
}


def filled(folder, names):
    for name in names:
        (folder / name).mkdir() if name.endswith("/") else (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize("names", THEIRS.values(), ids=THEIRS)
def test_a_folder_that_is_not_a_runs_may_not_be_cleared(names, tmp_path):
    with pytest.raises(ConfigError, match="is not empty"):
        run_folder.check_may_clear(filled(tmp_path, names))


@pytest.mark.parametrize("names", NODERUN.values(), ids=NODERUN)
def test_a_runs_folder_may_be_cleared(names, tmp_path):
    run_folder.check_may_clear(filled(tmp_path, names))
    run_folder.check_may_clear(tmp_path / "not there")


def test_clearing_deletes_what_runs_write_and_nothing_else(tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    elsewhere.mkdir()
    (elsewhere / "kept.txt").write_text("")
    written = [name.replace("*", "1.host") for name in files.NAMES]
    filled(run, [*written, "result.json.new", "notes.txt", "paper/"])
    (run / "figures").unlink()
    (run / "figures").symlink_to(elsewhere)
    (run / "evaluate").unlink()
    (run / "evaluate" / "euler").mkdir(parents=True)
    run_folder.clear(run)
    assert {path.name for path in run.iterdir()} == {*files.OF_A_START, "notes.txt", "paper"}
    assert (elsewhere / "kept.txt").exists()


def test_hyper_parameters_are_settings_by_key_the_most_telling_first(composer):
    job = make_job(composer, ["log=quiet", "model.augment=5", "gradient.norm=seminorm"])
    told = hyper_parameters(job.settings)
    first = ("model", "data", "dynamics", "solver", "tolerance")
    assert tuple(told)[:5] == first and told["model"] == "odenet" and told["tolerance"] == 1e-3
    assert told["model.augment"] == 5 and told["gradient.norm"] == "seminorm" and told["trainer.epochs"] == 8
    assert not told.keys() & {"log", "fresh", "data.download", "model.takes", "model.uses"}
