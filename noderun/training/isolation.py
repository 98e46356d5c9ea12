"""Isolation of the runs of one process: generators and global settings are restored after each."""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
import torch
from torch import backends
from torch.backends import cudnn

T = TypeVar("T")
Setting = tuple[Callable[[], Any], Callable[[Any], Any]]  # (read, write)


def flag(path: str) -> Setting:
    """How to read and set a flag of torch, by its dotted name."""
    owner, _, name = path.rpartition(".")
    holder = attrgetter(owner)(torch)
    return partial(getattr, holder, name), partial(setattr, holder, name)


def default_device() -> torch.device | None:
    device = torch.get_default_device()
    return None if device == torch.device("cpu") else device  # a default that is set, be it cpu, costs every call


def matmul_precision() -> str | None:
    """The precision as a word; None if torch refuses to tell because fp32_precision was set in another way."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def set_matmul_precision(word: str | None) -> None:
    if word is not None:
        torch.set_float32_matmul_precision(word)


def flushes_denormals() -> bool:
    return (torch.full((), 5e-324, dtype=torch.float64, device="cpu") * 1.0).item() == 0.0


def working_folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was deleted
        return None


def set_working_folder(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


def set_environment(values: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


def set_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    with warnings.catch_warnings():  # tells the warnings that have been seen of the change
        pass


# A more general setting stands before those that take their value from it.
SHARED: tuple[Setting, ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (default_device, torch.set_default_device),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    flag("utils.deterministic.fill_uninitialized_memory"),
    (flushes_denormals, torch.set_flush_denormal),
    (matmul_precision, set_matmul_precision),
    flag("backends.fp32_precision"),
    flag("backends.cuda.matmul.fp32_precision"),
    flag("backends.mkldnn.fp32_precision"),
    *(flag(f"backends.mkldnn.{part}.fp32_precision") for part in ("matmul", "conv", "rnn")),
    *(flag(f"backends.cudnn.{part}.fp32_precision") for part in ("conv", "rnn")),
    *(flag(f"backends.cudnn.{name}") for name in ("enabled", "benchmark", "deterministic")),
    (backends.cuda.flash_sdp_enabled, backends.cuda.enable_flash_sdp),
    (backends.cuda.mem_efficient_sdp_enabled, backends.cuda.enable_mem_efficient_sdp),
    (backends.cuda.math_sdp_enabled, backends.cuda.enable_math_sdp),
    *(
        (partial(torch.is_autocast_enabled, kind), partial(torch.set_autocast_enabled, kind))
        for kind in ("cpu", "cuda")
    ),
    (np.geterr, lambda errors: np.seterr(**errors)),
    (lambda: list(warnings.filters), set_filters),
    (lambda: logging.root.manager.disable, logging.disable),
    (lambda: dict(os.environ), set_environment),
    (working_folder, set_working_folder),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
)
_set_by_import: dict[str, list[tuple[Callable[[Any], Any], Any]]] = {}  # by a user's module, when it was imported


@contextmanager
def isolated(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Draw from ``seed`` inside (None: continue the current state), then restore generators and settings.

    Hydra's basic launcher runs a whole sweep in one process (hydra #2631).
    """
    before = [read() for read, _ in SHARED]
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
            for (read, write), value in zip(SHARED, before, strict=True):
                if read() != value:
                    write(value)


def imported(module: str, load: Callable[[], T]) -> T:
    """Load from a user's module, and apply again what its import set of SHARED.

    Python imports a module once per process; what the import set was undone at the end of the job that it was for.
    """
    before = [read() for read, _ in SHARED]
    found = load()
    changes = [(write, now) for (read, write), then in zip(SHARED, before, strict=True) if (now := read()) != then]
    for write, value in _set_by_import.setdefault(module, changes):
        write(value)
    return found
