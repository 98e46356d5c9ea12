"""A run of minutes or hours: memory, open files and threads do not grow with it.

`SOAK_SECONDS=3600 make test-long` makes it an hour.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from noderun.record.metrics import read_metrics

SECONDS = int(os.environ.get("SOAK_SECONDS", 300))
MIB_PER_HOUR = 30  # what the allocator's own ups and downs come to in five minutes
RUN = "data=moons data.examples=1000 model.stem=none dynamics=mlp dynamics.hidden=16 gradient=adjoint"


@pytest.mark.long
def test_a_long_run_holds_no_more_memory_files_and_threads_at_its_end(tmp_path):
    words = [
        *RUN.split(),
        "trainer.epochs=1000000",
        "trainer.checkpoint_seconds=5",
        "device=cpu",
        "log=quiet",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    with subprocess.Popen([sys.executable, "-m", "noderun", "train", *words], cwd=tmp_path) as process:
        seen = np.array(list(watched(process, tmp_path / "run" / "metrics.jsonl")))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130
    hours, memory, files, threads = seen[len(seen) // 4 :].T  # once caches and pools are full
    slope = np.polyfit(hours, memory, 1)[0]
    *_, last = read_metrics(tmp_path / "run" / "metrics.jsonl")
    print(
        f"{SECONDS} s, {last['step']} steps: {memory.mean():.0f} MiB, {slope:+.1f} MiB an hour, "
        f"{files.min():.0f} to {files.max():.0f} files, {threads.min():.0f} to {threads.max():.0f} threads"
    )
    assert slope < MIB_PER_HOUR
    assert np.median(files[-20:]) <= np.median(files[:20]) and np.median(threads[-20:]) <= np.median(threads[:20])


def watched(process, rows):
    """(hours, resident MiB, open files, threads) every half second, from the first row of metrics on."""
    while not rows.exists():
        assert process.poll() is None
        time.sleep(0.1)
    start = time.monotonic()
    while (passed := time.monotonic() - start) < SECONDS:
        place = Path("/proc") / str(process.pid)
        pages = int((place / "statm").read_text().split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        yield passed / 3600, memory, len(os.listdir(place / "fd")), len(os.listdir(place / "task"))
        time.sleep(0.5)
