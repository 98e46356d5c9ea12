"""What a job changes of its process, none of which the next one may find."""

import gc
import logging
import os
import random
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import backends

from noderun.training.isolation import SHARED, isolated

CPU = torch.device("cpu")
CHANGES = {
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "gradients": lambda: torch.set_grad_enabled(False),
    "anomaly mode": lambda: torch.autograd.set_detect_anomaly(True),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic mode": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "fill": lambda: setattr(torch.utils.deterministic, "fill_uninitialized_memory", False),
    "denormals": lambda: torch.set_flush_denormal(True),
    "matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
    "precision of all": lambda: setattr(backends, "fp32_precision", "tf32"),
    "precision of one": lambda: setattr(backends.mkldnn.matmul, "fp32_precision", "bf16"),
    "cuDNN": lambda: setattr(backends.cudnn, "benchmark", True),
    "attention": lambda: backends.cuda.enable_math_sdp(False),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "NumPy's errors": lambda: np.seterr(all="raise"),
    "filters": lambda: warnings.simplefilter("ignore"),
    "logging": lambda: logging.disable(logging.CRITICAL),
    "environment": lambda: os.environ.update(NODERUN_TEST="1"),
    "folder": lambda: os.chdir("/"),
    "recursion": lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 7),
    "collector": gc.disable,
    "draws": lambda: (random.random(), np.random.rand(), torch.rand(1)),
}


def state():
    return [read() for read, _ in SHARED]


def draws():
    with isolated(CPU):
        return random.random(), np.random.rand(), torch.rand(3).tolist()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("fails", [False, True])
def test_what_is_changed_inside_is_as_before_outside(change, fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, drawn = state(), draws()
    try:
        with isolated(CPU, seed=None if fails else 3):
            CHANGES[change]()
            if change != "draws":
                assert state() != before
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert state() == before and draws() == drawn


def test_filters_that_were_changed_are_forgotten(recwarn):
    def warn():
        warnings.warn("seen", UserWarning, stacklevel=1)

    warnings.simplefilter("always")
    with isolated(CPU):
        warnings.simplefilter("ignore")
        warn()
        assert not recwarn
    warn()
    assert len(recwarn) == 1
