"""kill -9 and SIGTERM against the installed command: the same words go on to the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from noderun.record.metrics import read_metrics

NODERUN = Path(sys.executable).with_name("noderun")
WORDS = """train data=digits data.batch_size=16 data.limit=480 model.stem=linear model.width=16 dynamics=mlp
trainer.epochs=3 trainer.log_every=5 trainer.checkpoint_seconds=0.1 scheduler=cosine device=cpu log=plain""".split()


def start(folder):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [NODERUN, *WORDS, f"hydra.run.dir={folder}"]
    return subprocess.Popen(
        command, cwd=folder.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(warm, folder):
    status, told = warm.run([*WORDS, f"hydra.run.dir={folder}"], folder.parent)
    assert status == 0, told
    assert told.splitlines()[-1] == str(folder)


def stop_at_row(folder, count, number):
    """Sends a signal once metrics.jsonl has ``count`` rows; returns the exit status."""
    process = start(folder)
    wait_for_rows(process, folder, count)
    process.send_signal(number)
    process.communicate(timeout=60)
    return process.returncode


def wait_for_rows(process, folder, count):
    until = time.monotonic() + 120
    while len(list(read_metrics(folder / "metrics.jsonl"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def weights(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)["model"]


@pytest.fixture(scope="module")
def whole(warm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(warm, folder)
    return folder


def test_stopped_twice_the_run_ends_in_the_same_bits(warm, whole, tmp_path):
    folder = tmp_path / "run"
    for rows, number, expected in ((3, signal.SIGKILL, -signal.SIGKILL), (10, signal.SIGTERM, 130)):
        assert stop_at_row(folder, rows, number) == expected
        assert not (folder / "result.json").exists()
    finish(warm, folder)
    torch.testing.assert_close(weights(folder), weights(whole), rtol=0, atol=0)
    steps = [row["step"] for row in read_metrics(folder / "metrics.jsonl")]
    assert steps == [row["step"] for row in read_metrics(whole / "metrics.jsonl")]
    assert [event.step for event in EventAccumulator(str(folder)).Reload().Scalars("loss/train")] == steps
    results = [json.loads((each / "result.json").read_text()) for each in (folder, whole)]
    for key in ("test_error", "train_loss", "nfe_forward", "nfe_backward", "steps", "epochs"):
        assert results[0][key] == results[1][key], key
    assert json.loads((folder / "status.json").read_text())["status"] == "done"
    log = (folder / "run.log").read_text()
    assert log.count("goes on after step") == 2 and log.count("trained to the end") == 1
