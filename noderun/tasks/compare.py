"""`noderun compare`: several models on one budget, side by side."""

from __future__ import annotations

from omegaconf import DictConfig

from noderun.tasks.job import run_job
from noderun.tasks.sweep import finish

__all__ = ["compare", "finish"]


def compare(config: DictConfig) -> str:
    return run_job(config)
