"""The suite startup: the time before anything happens, measured as whole processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from noderun.benchmarks.case import Case, Contenders

QUICK = {
    "python": ["-c", "pass"],
    "noderun --help": ["-m", "noderun", "--help"],
}
SLOW = {
    "noderun train --help": ["-m", "noderun", "train", "--help"],
    "import torch": ["-c", "import torch"],
    "import noderun; noderun.solve": ["-c", "import noderun; noderun.solve"],
}


def startup_cases(quick: bool) -> Iterator[Case]:
    lines = QUICK if quick else QUICK | SLOW
    contenders: Contenders = {name: partial(process, words) for name, words in lines.items()}
    if not quick:
        contenders["noderun train, up to its first step"] = first_step
    yield Case("startup", "whole processes", contenders, {}, 0.0)


def process(words: list[str]) -> None:
    subprocess.run([sys.executable, *words], check=True, capture_output=True)


def first_step() -> None:
    """Starts the default training in a fresh folder and ends it as soon as it has logged a step."""
    with TemporaryDirectory() as folder:
        words = ["-m", "noderun", "train", "trainer.log_every=1", "log=quiet", "hydra.run.dir=run"]
        metrics = Path(folder, "run", "metrics.jsonl")
        with subprocess.Popen(
            [sys.executable, *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as training:
            while not (metrics.exists() and metrics.stat().st_size):
                if training.poll() is not None:
                    raise RuntimeError(f"noderun {' '.join(words[2:])} ended with status {training.returncode}")
                time.sleep(0.005)
            training.kill()
