"""A full disk, a folder that is gone, no handles, two processes at once: one sentence, and nothing is lost."""

import json
import os
import signal
import subprocess
import time

import pytest
from same_run import assert_same_run, weights

WORDS = """train data=moons data.examples=96 data.batch_size=16 model.stem=none model.augment=1 dynamics=mlp
trainer.epochs=2 trainer.log_every=2 trainer.checkpoint_seconds=1e-9 tolerance=1e-2 device=cpu log=quiet""".split()


@pytest.fixture(scope="module")
def whole(warm, tmp_path_factory):
    place = tmp_path_factory.mktemp("whole")
    status, told = warm.run([*WORDS, f"hydra.run.dir={place / 'run'}"], place)
    assert status == 0, told
    return place / "run"


def sentence(told, folder):
    """The one line that a command line has printed on stderr, before its folder on stdout."""
    (line,) = [line for line in told.splitlines() if line != str(folder)]
    assert "Traceback" not in told
    return line


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place]).returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def continues(warm, words, cwd, whole):
    """The last checkpoint is whole, and the same command goes on from it to the same end."""
    assert weights(cwd / "run")
    status, told = warm.run(words, cwd)
    assert status == 0, told
    assert_same_run(cwd / "run", whole)


def failed(folder, reason):
    found = json.loads((folder / "status.json").read_text())
    return found["status"] == "failed" and reason in found["error"]


@pytest.mark.parametrize(
    ("fault", "reason"), [("small_files", "File too large"), ("no_handles", "Too many open files")]
)
def test_what_the_system_refuses_is_said_in_one_sentence(fault, reason, warm, whole, tmp_path):
    words = [*WORDS, f"hydra.run.dir={tmp_path / 'run'}"]
    status, told = warm.run(words, tmp_path, (fault, [7]))
    assert status == 1 and reason in sentence(told, tmp_path / "run"), told
    assert failed(tmp_path / "run", reason)
    continues(warm, words, tmp_path, whole)


def test_a_full_disk_is_said_in_one_sentence(warm, whole, small_disk):
    words = [*WORDS, f"hydra.run.dir={small_disk / 'run'}"]
    status, told = warm.run(words, small_disk, ("full_disk", [7]), name="../output")
    assert status == 1 and "No space left on device" in sentence(told, small_disk / "run"), told
    assert failed(small_disk / "run", "No space left on device")
    (small_disk / "filler").unlink()
    continues(warm, words, small_disk, whole)


@pytest.mark.parametrize(("fault", "reason"), [("deleted", "No such file"), ("replaced", "Not a directory")])
def test_a_folder_that_is_gone_is_said_in_one_sentence(fault, reason, warm, tmp_path):
    words = [*WORDS, f"hydra.run.dir={tmp_path / 'run'}"]
    status, told = warm.run(words, tmp_path, (fault, [7]))
    assert status == 1 and reason in sentence(told, tmp_path / "run"), told


def started(warm, words, cwd, name):
    """A command line that waits in its seventh step."""
    pid = warm.start(words, cwd, ("waits", [7]), name)
    until = time.monotonic() + 120
    while not list(cwd.glob("**/waits")):
        assert time.monotonic() < until, (cwd / name).read_text()
        time.sleep(0.02)
    return pid


def test_the_second_process_on_a_folder_says_so_and_changes_nothing(warm, whole, tmp_path):
    words = [*WORDS, f"hydra.run.dir={tmp_path / 'run'}"]
    first = started(warm, words, tmp_path, "first")
    status, told = warm.run([*words, "fresh=true"], tmp_path)
    assert status == 2
    assert sentence(told, tmp_path / "run").endswith(f"works in {tmp_path / 'run'}; this one changed nothing there")
    assert "fresh" not in (tmp_path / "run" / ".hydra" / "overrides.yaml").read_text()
    os.kill(first, signal.SIGUSR2)
    assert warm.wait(first) == 0
    (tmp_path / "run" / "waits").unlink()
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.long
def test_four_sweeps_in_one_folder_share_the_work(warm, tmp_path):
    words = ["sweep", *WORDS[1:], "seed=0,1,2,3", "name=shared"]
    pids = [warm.start(words, tmp_path, name=f"output{i}") for i in range(4)]
    statuses = [warm.wait(pid) for pid in pids]
    told = [(tmp_path / f"output{i}").read_text() for i in range(4)]
    assert statuses == [0] * 4 and not any("Traceback" in text for text in told), told
    folder = tmp_path / "outputs" / "sweep" / "shared"
    assert (folder / "results.csv").read_text().count("\n") == 5
    for run in folder.glob("odenet-*"):
        assert json.loads((run / "status.json").read_text())["status"] == "done"
        assert (run / "metrics.jsonl").read_bytes().count(b"\n") == 6


@pytest.mark.long
def test_a_sweep_takes_over_the_job_of_a_process_that_dies(warm, tmp_path):
    words = ["sweep", *WORDS[1:], "seed=0,1", "name=shared"]
    first = started(warm, words, tmp_path, "first")
    second = warm.start(words, tmp_path, name="second")
    time.sleep(2)
    os.kill(first, signal.SIGKILL)
    assert warm.wait(first) == -signal.SIGKILL
    assert warm.wait(second) == 0, (tmp_path / "second").read_text()


@pytest.mark.long
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("task", ["sweep", "compare", "evaluate"])
def test_a_disturbed_grid_is_ended_by_the_same_command(task, number, warm, whole, tmp_path):
    swept = {"sweep": "seed=0,1", "compare": "gradient=adjoint,backprop", "evaluate": "tolerance=1e-1,1e-3"}[task]
    words = [task, *(["run=" + str(whole)] if task == "evaluate" else [*WORDS[1:], "name=grid"]), swept]
    for seconds in (0.5, 1.5, 3.0, 5.0):
        status = warm.signalled(words, tmp_path, seconds, getattr(signal, number))
        assert status in (0, 130, -signal.SIGKILL), (tmp_path / "output").read_text()
    status, told = warm.run(words, tmp_path)
    assert status == 0 and "Traceback" not in told, told
