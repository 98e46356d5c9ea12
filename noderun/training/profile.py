"""Where the time of a training step goes, by torch.profiler."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from noderun.record import files
from noderun.report.table import write_csv

log = logging.getLogger(__name__)
WARM_UP = 3  # steps that are not watched: the first ones allocate, compile and choose kernels


class Profile:
    """Watches ``steps`` training steps after the first WARM_UP of this process, and does nothing if that is 0.

    Steps are watched within one epoch, which may end sooner. What was seen is in profile.csv, one row per operation
    and the dearest first, and in trace.json, for chrome://tracing or ui.perfetto.dev.
    """

    def __init__(self, steps: int, folder: Path, device: torch.device) -> None:
        self.steps, self.folder, self.on_gpu = steps, folder, device.type == "cuda"
        self.passed = self.seen = 0
        self.profiler: Any = None

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        if self.profiler is not None:
            self.profiler.stop()
        elif self.steps and kind is None:
            log.warning("no profile: training ended within %d steps, which warm up what is to be watched", WARM_UP)

    def before_step(self) -> None:
        if self.steps and self.profiler is None and self.passed >= WARM_UP:
            self.start()

    def after_step(self, last: bool) -> None:
        """Called after each step; ``last`` says that the epoch ends with it."""
        if self.steps:
            self.passed += 1
            self.seen += self.profiler is not None
            if self.profiler is not None and (last or self.seen == self.steps):
                self.finish()

    def start(self) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # which calls it an error that there is no GPU
        from torch.profiler import ProfilerActivity, profile

        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.on_gpu else [])]
        self.profiler = profile(activities=activities, acc_events=True)
        self.profiler.start()

    def finish(self) -> None:
        profiler, steps, self.profiler, self.steps = self.profiler, self.seen, None, 0
        profiler.stop()
        write_csv(operations(profiler.key_averages(), steps, self.on_gpu), self.folder / files.PROFILE)
        with files.replacing(self.folder / files.TRACE) as new:
            profiler.export_chrome_trace(str(new))


def operations(averages: Any, steps: int, on_gpu: bool) -> list[dict[str, Any]]:
    """One row per operation, per step, in milliseconds: of itself, and with what it called."""
    rows = []
    for each in averages:
        row = {"operation": each.key, "calls": each.count / steps}
        times = {"self CPU (ms)": each.self_cpu_time_total, "CPU (ms)": each.cpu_time_total}
        if on_gpu:
            times |= {"self GPU (ms)": each.self_device_time_total, "GPU (ms)": each.device_time_total}
        rows.append(row | {name: microseconds / 1e3 / steps for name, microseconds in times.items()})
    return sorted(rows, key=lambda row: -row["self GPU (ms)" if on_gpu else "self CPU (ms)"])
