"""configs/: every option composes, is typed, says why it is as it is, and has its say in the right order."""

import inspect
import json
from dataclasses import asdict, fields
from functools import cache

import pytest

from noderun.cli.main import TASKS, main
from noderun.cli.planning import make_job
from noderun.cli.tasks.integrate import make_job as integrate_job
from noderun.cli.tasks.list import answer, groups, options
from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.config.options import OPTIONS, Gradient, Solver
from noderun.config.options.option import settings_of
from noderun.config.schema import Settings
from noderun.config.validation import ConfigError
from noderun.training.parts import registries

ROOT = config_folder()
CHOICES = [(group, option) for group in groups([ROOT]) for option in options(group, [ROOT])]
OF_INTEGRATE = ("lab", "problem")  # the groups that training does not have


@pytest.fixture(scope="module")
def train():
    return Composer("train", [ROOT])


@pytest.fixture(scope="module")
def integrate():
    return Composer("integrate", [ROOT])


@pytest.fixture(scope="module")
def job_of(train):
    """The job of one option, which two tests look at."""
    return cache(lambda group, option: make_job(train, [f"{group}={option}"]))


DERIVED = {("solver", "knots"): "heun2"}  # files of ours that start from a declared option


@pytest.mark.parametrize(("group", "option"), CHOICES)
def test_every_option_composes_and_says_what_it_is(group, option, job_of, integrate):
    if group in OF_INTEGRATE:
        settings = integrate_job(integrate, [f"{group}={option}"]).settings
        chosen = {"name": settings.lab_name} if group == "lab" else asdict(settings.problem)
    else:
        chosen = asdict(job_of(group, option).settings).get(group) or {}
    assert chosen.get("name", option) == DERIVED.get((group, option), option) or group == "trainer"
    rows = answer(f"{group}={option}", [ROOT]).splitlines()
    assert any(row.startswith("#") and "@package" not in row for row in rows)


@pytest.mark.parametrize("task", [task for task, kind in TASKS.items() if kind.kind != "plain"])
def test_every_task_has_its_config(task):
    assert Composer(task, [ROOT]).compose([]).hydra.job.config_name == task


def test_what_exists_is_declared_and_what_is_declared_exists():
    for group, names in registries().items():
        assert names.keys() == OPTIONS[group].keys(), group


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


@pytest.mark.parametrize("group", ["model", "dynamics", "regularizer", "data", "scheduler"])
def test_a_default_that_a_constructor_has_too_is_the_options(group):
    compared = 0
    for name, made in registries()[group].items():
        declared = {each.key: each.default for each in settings_of(OPTIONS[group][name])}
        for key, value in defaults(made).items():
            if key in declared and key not in ("augment", "task"):  # of data, which a reader is always told
                assert (list(value) if isinstance(value, tuple) else value) == declared[key], (name, key)
                compared += 1
    assert compared


def test_the_settings_shared_by_all_have_one_default(train):
    composed = train.compose([])
    shared = [f for f in fields(Settings) if f.name in composed and f.name not in OPTIONS]
    assert {f.name: f.default for f in shared} == {f.name: composed[f.name] for f in shared}
    assert composed.tolerance == Solver.rtol == Solver.atol == Gradient.rtol == Gradient.atol


def test_what_an_experiment_sets_of_its_model_does_not_stop_another_model(train):
    words = ["experiment=latent_ode/oscillators", "model=rnn"]
    options = make_job(train, words).settings.model.options
    assert options["hidden"] == 16 and not {"latent", "lift", "noise"} & options.keys()
    with pytest.raises(ConfigError, match=r"no setting 'model\.latent' with this model"):
        make_job(train, [*words, "model.latent=4"])


def test_an_experiments_unknown_setting_of_its_own_model_is_refused(tmp_path):
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /model: rnn\nmodel: {latent: 4}\n"
    (tmp_path / "experiment/mine.yaml").write_text(text)
    composer = Composer("train", [tmp_path, ROOT])
    for words in (["experiment=mine"], ["experiment=mine", "model=rnn"]):
        with pytest.raises(ConfigError, match=r"no setting 'model\.latent' with this model"):
            make_job(composer, words)


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
        "# @package _global_\ndefaults:\n  - override /model: mine\n  - override /optimizer: adam\n"
        "solver: {rtol: 1e-2}\n"
    )

    def chosen(*words):
        s = make_job(Composer("train", [tmp_path, ROOT]), words).settings
        return s.data.name, s.dynamics.name, s.optimizer.name, s.solver.rtol

    assert chosen("model=mine") == ("digits", "mlp", "sgd", 1e-3)
    assert chosen("model=mine", "data=mnist", "dynamics=conv") == ("mnist", "conv", "sgd", 1e-3)
    assert chosen("experiment=mine") == ("digits", "mlp", "adam", 1e-2)
    assert chosen("optimizer=adamw", "solver.rtol=1e-4", "experiment=mine") == ("digits", "mlp", "adamw", 1e-4)


def test_the_paper_is_followed(train):
    settings = make_job(train, ["experiment=chen2018/mnist"]).settings
    assert settings.optimizer.name == "sgd" and settings.optimizer.lr == 0.1
    assert settings.optimizer.options == {"momentum": 0.9}
    assert settings.scheduler.options == {"milestones": (60.0, 100.0, 140.0), "gamma": 0.1}
    assert (settings.trainer.epochs, settings.data.batch_size, settings.data.augment) == (160, 128, True)


DECLARED = [(group, option) for group in OPTIONS for option in OPTIONS[group]]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A user's folder in which every declared option is a file, as `noderun list` shows it."""
    folder = tmp_path_factory.mktemp("shown")
    for group, option in DECLARED:
        (folder / group).mkdir(exist_ok=True)
        (folder / group / f"my_{option}.yaml").write_text(answer(f"{group}={option}", [ROOT]))
    return Composer("train", [folder, ROOT])


@pytest.mark.parametrize(("group", "option"), DECLARED)
def test_list_shows_an_option_as_a_file_that_says_the_same(group, option, shown, job_of):
    """Each setting with its type; and a user's file of those words is the option itself."""
    assert make_job(shown, [f"{group}=my_{option}"]).identity == job_of(group, option).identity
    text = answer(f"{group}={option}", [ROOT])
    rows = [row for row in text.splitlines() if not row.startswith(("#", "name:", "defaults:"))]
    assert all("# " in row for row in rows)


def test_list_shows_the_file_of_a_users_option_and_all_there_is(tmp_path, capsys):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.yaml").write_text("# My net.\nname: mine\nclass: nets:Mine\n")
    assert main(["list", "model=mine", "--config-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (tmp_path / "model/mine.yaml").read_text()
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {option} " in shown for _, option in CHOICES)


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
