"""Sweeps that are submitted, with submitit's processes on this machine in place of Slurm (tests/slurm has Slurm)."""

import csv
import json
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from submitit.local import local

from noderun.cli.main import main
from noderun.config import config_folder
from noderun.config.compose import Composer

DATA = "data=digits data.limit=64 trainer.max_steps=1 trainer.epochs=1 device=cpu".split()
NET = [*DATA, "model=mlp", "model.hidden=4"]

pytestmark = pytest.mark.usefixtures("restored_process")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Composer("sweep", [config_folder()])  # has Hydra look for its plugins, once in a process
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    """The processes that submitit starts and leaves alone."""
    processes, start = [], local.start_controller
    monkeypatch.setattr(local, "start_controller", lambda **words: processes.append(start(**words)) or processes[-1])
    yield processes
    for process in processes:
        process.wait(timeout=120)


def states(folder):
    with (folder / "results.csv").open(newline="") as file:
        return [row["status"] for row in csv.DictReader(file)]


def test_what_is_missing_is_submitted_once_and_collected_by_the_same_command(here, started, capsys):
    folder = here / "outputs" / "sweep" / "two"
    assert main(["sweep", *NET, "name=two", "seed=range(0,1)"]) == 0
    again = ["sweep", *NET, "name=two", "seed=0,1", "hydra/launcher=submitit_local"]
    for said in ("1 jobs are done, 0 were in the queue, 1 were submitted", "1 were in the queue, 0 were submitted"):
        capsys.readouterr()
        assert main(again) == 0 and said in capsys.readouterr().err
    (process,) = started
    assert json.loads((folder / "queue.json").read_text()).popitem()[1] == str(process.pid)
    assert process.wait(timeout=120) == 0
    assert main(again) == 0 and states(folder) == ["done", "done"]
    assert "2 jobs are done, 0 were in the queue, 0 were submitted" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["sweep model=mlp model.hidden=4 seed=0,1", "compare model=mlp,stem"])
def test_a_job_that_nobody_will_start_is_submitted_again(line, here, monkeypatch):
    """As after a cancelled array: what the queue once had is only believed if the queue has it still."""
    import hydra_plugins.noderun_submitit as plugin

    submitted = []
    monkeypatch.setattr(
        plugin.Submitit, "submit", lambda self, folder, places: submitted.append(places) or ["0"] * len(places)
    )
    monkeypatch.setattr(plugin, "is_process", lambda number: False)
    for _ in range(2):
        assert main([*line.split(), *DATA, "hydra/launcher=submitit_local", "log=quiet"]) == 0
    assert [len(places) for places in submitted] == [2, 2]


def test_without_submitit_the_launcher_is_not_installed(here, monkeypatch, capsys):
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], "submitit_slurm.yaml")
    assert main(["sweep", *NET, "seed=0,1", "hydra/launcher=submitit_slurm"]) == 2
    assert capsys.readouterr().err == (
        "noderun: hydra/launcher=submitit_slurm is not installed: pip install 'noderun[slurm]'\n"
    )


def test_a_machine_without_slurm_is_told_so(here, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert main(["sweep", *NET, "seed=0,1", "hydra/launcher=submitit_slurm"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no sbatch" in line and not Path("outputs").exists()
