"""Identity: what makes two command lines the same run."""

import pytest

from noderun import runs
from noderun.compose import Composer
from noderun.jobs import make_job
from noderun.shipped import config_folder
from noderun.words import flat

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
    runs.write_status(tmp_path, "running", {"seed": 1})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        runs.write_status(tmp_path, "done", {"seed": 1})
    assert runs.read_status(tmp_path)["status"] == "running"


def test_differences_names_the_keys(tmp_path):
    assert runs.differences(tmp_path, {"seed": 1}) == []
    runs.write_status(tmp_path, "done", {"seed": 1, "model.name": "stem"})
    assert runs.differences(tmp_path, {"model.name": "stem", "solver.dt": 0.1}) == ["seed", "solver.dt"]


def test_flat_keeps_every_leaf():
    assert flat({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "d": [1]}
