"""What one run must not leave to the next one in the same process, nor to whoever called it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.backends import cudnn


@contextmanager
def isolated(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Draws inside come from ``seed`` (None: go on from here); outside, generators and cuDNN flags stay as they were.

    Hydra's basic launcher runs a whole sweep in one process (hydra #2631).
    """
    flags = cudnn.benchmark, cudnn.deterministic
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            if seed is not None:
                cudnn.benchmark, cudnn.deterministic = False, False
                random.seed(seed)
                np.random.seed(seed % 2**32)
                torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
            cudnn.benchmark, cudnn.deterministic = flags
