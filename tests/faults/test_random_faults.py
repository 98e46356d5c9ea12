"""Random faults: the same command continues, and what it ends with is what an undisturbed run ends with, to the bit."""

import os
import random
import signal
import time

import pytest
from same_run import assert_same_run

WORDS = """train data=moons data.examples=96 data.batch_size=16 model.stem=none model.augment=1 dynamics=mlp
trainer.epochs=2 trainer.log_every=2 trainer.checkpoint_seconds=0.02 tolerance=1e-2 device=cpu log=quiet""".split()
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
FILES = """checkpoint.pt checkpoint.previous.pt metrics.jsonl status.json environment.json result.json own_metrics.json
run.log .hydra/config.yaml .hydra/overrides.yaml .hydra/hydra.yaml events.out.tfevents.*""".split()
DEATHS = [-getattr(signal, name) for name in SIGNALS]
KINDS = ("signal", "twice", "writing", "power")


@pytest.fixture(scope="module")
def job(warm):
    return warm.ask(plan=WORDS[1:])


@pytest.fixture(scope="module")
def whole(warm, job, tmp_path_factory):
    """An undisturbed run, with the seconds that it takes as a command line and as a job without Hydra."""
    place, seconds = tmp_path_factory.mktemp("whole"), []
    for words, number in ([*WORDS, f"hydra.run.dir={place / 'line'}"], None), ([], job):
        start = time.monotonic()
        status, told = warm.run(words, place, job=number)
        assert status == 0, told
        seconds.append(time.monotonic() - start)
    assert_same_run(place / "line", place / "run")
    return place / "run", *seconds


def disturb(kind, warm, words, job, cwd, seconds, draw):
    """One fault at a random moment; the exit status."""
    number = getattr(signal, "SIGKILL" if kind == "power" else draw.choice(SIGNALS))
    if kind == "writing":  # before a file is on the disk, or before it gets its name
        call = draw.choice(["fsync", "replace"])
        place = draw.randint(1, 60 if call == "fsync" else 30)
        return warm.run(words, cwd, ("dies_at_call", [call, place, number, draw.random() < 0.3]), job=job)[0]
    again = draw.uniform(0, 0.05) if kind == "twice" else None
    status = warm.signalled(words, cwd, draw.uniform(0, 1.05 * seconds), number, again, job)
    if kind == "power":
        cut(cwd / "run", draw)
    return status


def cut(folder, draw):
    """Cut one of the run's files at any byte, as a power cut may do to what has not reached the disk.

    TensorBoard's files of a finished run are left alone: they are written again only if a run goes on.
    """
    status = folder / "status.json"
    finished = status.is_file() and '"done"' in status.read_text()
    there = [path for name in FILES[: -1 if finished else None] for path in sorted(folder.glob(name))]
    if there:
        path = draw.choice(there)
        os.truncate(path, draw.randint(0, path.stat().st_size))


def written(folder):
    """When each file of a run was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def check(kind, seed, warm, job, whole, cwd):
    """Disturb a run once or twice, then let the same command end it; one in ten as a whole command line."""
    (undisturbed, of_line, of_job), draw = whole, random.Random(f"{kind} {seed}")
    words, seconds = [*WORDS, f"hydra.run.dir={cwd / 'run'}"], of_job
    if draw.random() < 0.1:
        job, seconds = None, of_line
    for _ in range(draw.randint(1, 2)):
        before = written(cwd / "run")
        status = disturb(kind, warm, words, job, cwd, seconds, draw)
        assert status in {0, 1, 130, *DEATHS}, (cwd / "output").read_text()
        if status in DEATHS and status != -signal.SIGKILL:  # the signal came before the program's first line
            assert written(cwd / "run") == before
    status, told = warm.run(words, cwd, job=job)
    if status in (1, 2):  # rows that were on the disk, both checkpoints or both identities are gone
        assert kind == "power" and "Traceback" not in told and "fresh=true" in told
        status, told = warm.run([*words, "fresh=true"], cwd)
    assert status == 0 and "Traceback" not in told, told
    assert_same_run(cwd / "run", undisturbed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_a_disturbed_run_ends_as_an_undisturbed_one(kind, seed, warm, job, whole, tmp_path):
    check(kind, seed, warm, job, whole, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5, 60))
def test_many_disturbed_runs_end_as_an_undisturbed_one(kind, seed, warm, job, whole, tmp_path):
    check(kind, seed, warm, job, whole, tmp_path)
