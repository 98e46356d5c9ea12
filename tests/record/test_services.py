"""Weights & Biases and MLflow, by stand-ins that keep what they are told; their packages need not be installed."""

import importlib.util
import json
import sys
import types

import pytest

from noderun.cli.main import main
from noderun.record.recorder import Recorder

SETTINGS = {"seed": 1, "data": "digits", "data.limit": None}


class Wandb:
    """The part of wandb's interface that noderun calls."""

    def __init__(self):
        self.runs = {}

    def Settings(self, **options):
        return options

    def init(self, *, project, group, name, dir, id, resume, settings):
        assert (project, resume, settings) == ("noderun", "allow", {"console": "off"})
        run = types.SimpleNamespace(id=id or f"id{len(self.runs)}", rows=[], config={}, ends=[])
        run = self.runs.setdefault(run.id, run)
        run.log = lambda numbers, step: run.rows.append((step, numbers))
        run.finish = lambda exit_code: run.ends.append(exit_code)
        return run


class MlflowClient:
    """The part of MlflowClient's interface that noderun calls."""

    runs = {}

    def get_experiment_by_name(self, name):
        return types.SimpleNamespace(experiment_id="7") if self.runs else None

    def create_experiment(self, name):
        return "7"

    def create_run(self, experiment_id, run_name):
        run = types.SimpleNamespace(
            rows=[], config={}, ends=[], info=types.SimpleNamespace(run_id=f"r{len(self.runs)}")
        )
        self.runs[run.info.run_id] = run
        return run

    def update_run(self, run_id, status):
        assert run_id in self.runs and status == "RUNNING"

    def log_batch(self, run_id, metrics=(), params=()):
        self.runs[run_id].config.update(dict(params))
        steps = {step: {} for _, _, _, step in metrics}
        for key, value, _, step in metrics:
            steps[step][key] = value
        self.runs[run_id].rows += steps.items()

    def set_terminated(self, run_id, status):
        self.runs[run_id].ends.append(int(status == "FAILED"))


@pytest.fixture(params=["wandb", "mlflow"])
def service(request, monkeypatch):
    """Its name, and the runs that it knows."""
    if request.param == "wandb":
        module = Wandb()
        monkeypatch.setitem(sys.modules, "wandb", module)
        return "wandb", module.runs
    client = type("Client", (MlflowClient,), {"runs": {}})
    entities = types.SimpleNamespace(Param=lambda *pair: pair, Metric=lambda *point: point)
    monkeypatch.setitem(sys.modules, "mlflow", types.SimpleNamespace(MlflowClient=client))
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return "mlflow", client.runs


def write(recorder, *steps):
    for step in steps:
        recorder.log({"loss/train": 1.0 / step, "nfe/backward": None, "loss/test": float("nan")}, step, epoch=1)


def row(step):
    return step, {"loss/train": 1.0 / step, "epoch": 1}


def test_rows_are_sent_once_a_checkpoint_vouches_for_them(service, tmp_path):
    name, runs = service
    with Recorder(tmp_path, names=(name,)) as recorder:
        recorder.describe(SETTINGS, "", ())
        write(recorder, 1, 2)
        (run,) = runs.values()
        assert not run.rows
        mark = recorder.flush()
        write(recorder, 3)  # nothing vouches for it
    assert run.rows == [row(1), row(2)] and run.ends == [0]
    assert {key: str(value) for key, value in run.config.items()} == {
        "seed": "1",
        "data": "digits",
        "data.limit": "null",
    }
    with pytest.raises(ZeroDivisionError), Recorder(tmp_path, mark, (name,)) as recorder:
        write(recorder, 3)
        recorder.flush()
        raise ZeroDivisionError
    assert len(runs) == 1 and run.rows == [row(1), row(2), row(3)] and run.ends == [0, 1]
    Recorder(tmp_path, names=(name,)).close()  # started over: another run
    assert len(runs) == 2 and list(json.loads((tmp_path / "services.json").read_text())) == [name]


def test_a_service_that_fails_is_left_with_one_warning(service, tmp_path, monkeypatch, caplog):
    name, runs = service
    with Recorder(tmp_path, names=("tensorboard", name)) as recorder:
        (run,) = runs.values()
        monkeypatch.setattr(run, "rows", None)
        for step in (1, 2):
            write(recorder, step)
            recorder.flush()
    assert [r.getMessage().partition(": ")[0] for r in caplog.records] == [f"{name} records no more of this run"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2 and not run.ends


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_not_here_is_said_before_anything_starts(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    there = importlib.util.find_spec
    monkeypatch.setattr("noderun.training.compatibility.find_spec", lambda word: None if word == name else there(word))
    assert main(["train", f"trainer.recorders=[{name}]"]) == 2
    assert f"trainer.recorders: {name} is not here: pip install 'noderun[{name}]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
