"""Sweeps and preemption on a real Slurm of this one machine: `make test-slurm`."""

import csv
import json

import pytest
from cluster import cluster, obstacle, slurm, wait_until
from faults.same_run import assert_same_run

from noderun.cli.main import main
from noderun.record import files
from noderun.record.metrics import read_metrics

pytestmark = [pytest.mark.long, pytest.mark.slurm, pytest.mark.usefixtures("restored_process")]
NET = "data=digits model=mlp model.hidden=4 device=cpu log=quiet".split()
LONG = "data.batch_size=8 trainer.epochs=30 trainer.checkpoint_seconds=1 seed=range(0,1)".split()
ON_SLURM = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=main", "hydra.launcher.timeout_min=5"]


@pytest.fixture(scope="module", autouse=True)
def slurm_here():
    if reason := obstacle():
        pytest.skip(reason)
    with cluster():
        yield


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "outputs" / "sweep"


def queue():
    return slurm("squeue", "--me", "--noheader", "--array", "--format=%i").split()


def states(folder):
    with (folder / "results.csv").open(newline="") as file:
        return [row["status"] for row in csv.DictReader(file)]


def sweep(*words):
    return main(["sweep", *NET, *words])


def test_an_array_is_submitted_once_and_collected_by_the_same_command(here, capsys):
    words = ["data.limit=64", "trainer.epochs=1", "name=three", "seed=0,1,2"]
    assert sweep(*words[:-1], "seed=0,1") == 0
    assert sweep(*words, *ON_SLURM) == 0 and states(here / "three") == ["done", "done", "not started"]
    (job,) = queue()
    assert sweep(*words, *ON_SLURM) == 0 and queue() in ([job], [])  # it waits or runs and is not submitted again
    wait_until(lambda: not queue(), 60, "empty queue")
    assert sweep(*words, *ON_SLURM) == 0 and states(here / "three") == ["done"] * 3
    assert json.loads((here / "three" / "queue.json").read_text()).popitem()[1] == job
    assert (here / "three" / "report.html").is_file() and (here / "three" / "figures" / "learning.png").is_file()


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """The long run, undisturbed and not on Slurm."""
    monkeypatch.chdir(tmp_path)
    assert sweep(*LONG, "name=whole") == 0
    return next(tmp_path.glob("outputs/sweep/whole/*/status.json")).parent


STOPS = {
    "warned": ("scancel", "--signal=USR1"),  # as `sbatch --signal=USR1@90`: the job queues itself again
    "timed_out": ("scancel", "--signal=USR2"),  # submitit's choice of that signal
    "preempted": ("scontrol", "requeue"),  # what Slurm does to a job that has to make room
}


def test_stopped_jobs_are_saved_queued_again_and_end_in_the_same_bits(whole, here):
    for name in STOPS:
        assert sweep(*LONG, f"name={name}", "fresh=true", *ON_SLURM) == 0
    jobs = {name: json.loads((here / name / files.QUEUE).read_text())[whole.name] for name in STOPS}
    runs = {name: here / name / whole.name for name in STOPS}
    left = dict(STOPS)
    wait_until(lambda: not stop_those_that_run(left, runs, jobs), 120, "rows of the runs")
    wait_until(lambda: all([restarted(job) for job in jobs.values()]) and not queue(), 120, "end of the jobs")
    for name, run in runs.items():
        assert sweep(*LONG, f"name={name}", *ON_SLURM) == 0 and states(here / name) == ["done"]
        assert_same_run(run, whole)


def stop_those_that_run(left, runs, jobs):
    """Stop each run that has written rows, once; what is left."""
    for name in list(left):
        if len(list(read_metrics(runs[name] / files.METRICS))) > 2:
            slurm(*left.pop(name), jobs[name])
    return left


def restarted(job):
    """Whether Slurm has started a job anew; has it do so now, since it would wait for two minutes."""
    slurm("scontrol", "update", f"jobid={job}", "StartTime=now", check=False)
    return "Restarts=1" in slurm("scontrol", "show", "job", job)


def test_words_that_slurm_does_not_take_are_one_sentence(here, capsys):
    assert sweep("seed=0,1", "name=wrong", ON_SLURM[0], "hydra.launcher.partition=none") == 2
    assert "Invalid partition" in capsys.readouterr().err.splitlines()[-1]
