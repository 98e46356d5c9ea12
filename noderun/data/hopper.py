"""The Hopper of Rubanova et al. (2019), simulated anew: dm_control's hopper falls from random states without action."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from noderun.data.dataset import Dataset
from noderun.data.files import DataError
from noderun.data.points import require_none
from noderun.data.series import series_dataset
from noderun.data.series_files import complete

SEED, TIMES = 123, 200


def require(root: Path) -> None:
    if find_spec("dm_control") is None:
        raise DataError("data=hopper is simulated by dm-control, which is not installed: pip install 'noderun[mujoco]'")


def hopper(
    root: Path, augment: bool = False, *, examples: int = 10_000, task: str | None = None, **asked: Any
) -> Dataset:
    """``examples`` series of 200 times, 14 channels (positions, then velocities); the last fifth tests.

    As in the authors' recipe: task stand, seed 123, the first two positions uniform in [0, 0.5], the others in [-2, 2],
    velocities in [-5, 5]. The bits may differ from those of the file that was published in 2019.
    """
    import numpy

    require_none("hopper", augment)
    require(root)
    from dm_control import suite

    environment = suite.load("hopper", "stand", task_kwargs={"random": SEED})
    physics, random = environment.physics, numpy.random.RandomState(SEED)
    positions = len(physics.data.qpos)
    values = torch.empty(examples, TIMES, positions + len(physics.data.qvel))
    for series in values:
        with physics.reset_context():
            physics.data.qpos[:2] = random.uniform(0, 0.5, size=2)
            physics.data.qpos[2:] = random.uniform(-2, 2, size=positions - 2)
            physics.data.qvel[:] = random.uniform(-5, 5, size=len(physics.data.qvel))
        for row in series:
            row[:positions] = torch.from_numpy(physics.data.qpos.copy())
            row[positions:] = torch.from_numpy(physics.data.qvel.copy())
            physics.step()
    tests = max(1, examples // 5)
    train, test = (complete(part, torch.linspace(0, 1, TIMES)) for part in (values[:-tests], values[-tests:]))
    return series_dataset("hopper", train, test, task or "interpolate", **asked)
