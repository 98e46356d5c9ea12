"""configs/: every option composes, is typed, says why it is as it is, and has its say in the right order."""

import json
from dataclasses import asdict

import pytest

from noderun.cli.main import main
from noderun.cli.planning import make_job
from noderun.cli.tasks.integrate import make_job as integrate_job
from noderun.cli.tasks.list import groups, options
from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.training.compatibility import registries

ROOT = config_folder()
OPTIONS = [(group, option) for group in groups([ROOT]) for option in options(group, [ROOT])]
OF_INTEGRATE = ("lab", "problem")  # the groups that training does not have


@pytest.fixture(scope="module")
def train():
    return Composer("train", [ROOT])


@pytest.fixture(scope="module")
def integrate():
    return Composer("integrate", [ROOT])


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_says_what_it_is(group, option, train, integrate):
    if group in OF_INTEGRATE:
        settings = integrate_job(integrate, [f"{group}={option}"]).settings
        chosen = {"name": settings.lab_name} if group == "lab" else asdict(settings.problem)
    else:
        chosen = asdict(make_job(train, [f"{group}={option}"]).settings).get(group) or {}
    assert chosen.get("name", option) == option or group == "trainer"
    rows = (ROOT / group / f"{option}.yaml").read_text().splitlines()
    assert any(row.startswith("#") and "@package" not in row for row in rows) or all("#" in row for row in rows)


@pytest.mark.parametrize("task", [task for task, kind in main.TASKS.items() if kind.kind != "plain"])
def test_every_task_has_its_config(task):
    assert Composer(task, [ROOT]).compose([]).hydra.job.config_name == task


def test_everything_that_exists_can_be_chosen():
    for group, names in registries().items():
        assert names.keys() <= set(options(group, [ROOT])), group


def test_a_models_file_chooses_but_the_command_line_and_experiments_win(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "experiment").mkdir()
    (tmp_path / "model/mine.yaml").write_text(
        "defaults:\n"
        "  - override /data@_global_.data: digits\n"
        "  - override /dynamics@_global_.dynamics: mlp\n"
        "  - override /optimizer@_global_.optimizer: sgd\n"
        "name: odenet\nuses: [dynamics, solver, gradient]\n"
    )
    (tmp_path / "experiment/mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: mine\n  - override /optimizer: adam\ntolerance: 1e-2\n"
    )

    def chosen(*words):
        s = make_job(Composer("train", [tmp_path, ROOT]), words).settings
        return s.data.name, s.dynamics.name, s.optimizer.name, s.tolerance

    assert chosen("model=mine") == ("digits", "mlp", "sgd", 1e-3)
    assert chosen("model=mine", "data=mnist", "dynamics=conv") == ("mnist", "conv", "sgd", 1e-3)
    assert chosen("experiment=mine") == ("digits", "mlp", "adam", 1e-2)
    assert chosen("optimizer=adamw", "tolerance=1e-4", "experiment=mine") == ("digits", "mlp", "adamw", 1e-4)


def test_the_paper_is_followed(train):
    settings = make_job(train, ["experiment=chen2018/mnist"]).settings
    assert settings.optimizer.name == "sgd" and settings.optimizer.lr == 0.1
    assert settings.optimizer.options == {"momentum": 0.9}
    assert settings.scheduler.options == {"milestones": (60.0, 100.0, 140.0), "gamma": 0.1}
    assert (settings.trainer.epochs, settings.data.batch_size, settings.data.augment) == (160, 128, True)


def test_list_shows_the_file_with_its_comments(capsys):
    assert main(["list", "model=odenet"]) == 0
    assert capsys.readouterr().out == (ROOT / "model/odenet.yaml").read_text()
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {option} " in shown for _, option in OPTIONS)


def test_the_ledger_filters_and_sorts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, error in ((0, 0.5), (1, 0.25), (2, None)):
        folder = tmp_path / "outputs/train" / str(seed)
        folder.mkdir(parents=True)
        state = {"status": "done" if error else "failed", "error": None}
        (folder / "status.json").write_text(json.dumps(state | {"identity": {"model.name": "stem", "seed": seed}}))
        if error:
            (folder / "result.json").write_text(json.dumps({"test_error": error, "seed": seed, "rtol": 1e-3}))
    assert main(["runs", "--json", "--sort", "test_error"]) == 0
    assert [row["seed"] for row in json.loads(capsys.readouterr().out)] == [1, 0, 2]
    assert main(["runs", "--json", "--sort", "-test_error"]) == 0
    assert [row["seed"] for row in json.loads(capsys.readouterr().out)] == [0, 1, 2]
    assert main(["runs", "status=done", "--json", "rtol=1e-3", "model=stem"]) == 0
    assert [row["test_error"] for row in json.loads(capsys.readouterr().out)] == [0.5, 0.25]
    assert main(["runs"]) == 0
    assert "50.00%" in capsys.readouterr().out
    assert main(["runs", "sead=1"]) == 2
    assert "did you mean 'seed'?" in capsys.readouterr().err
