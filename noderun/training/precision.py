"""trainer.precision and deterministic: how a GPU computes with float32, and the tolerances that this allows."""

from __future__ import annotations

import os
from typing import Any

import torch

# The error, relative to f, that the rounding of f's products leaves in a solve, whatever its tolerance: half a unit in
# the last of 11 bits, and of a solve whose state stays float32 half as much in bfloat16's 8.
FLOOR = {"tf32": 2.0**-11, "bf16": 2.0**-10}
REPRODUCIBLE_CUBLAS = ":4096:8"  # work space; docs.nvidia.com/cuda/cublas, "Results reproducibility"


def set_precision(word: str) -> None:
    """Round the products of float32 numbers on a GPU to TF32 only if asked to: torch's convolutions do by default."""
    kind = "tf32" if word == "tf32" else "ieee"
    backends: Any = torch.backends
    for part in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
        part.fp32_precision = kind


def set_deterministic(device: torch.device) -> None:
    """Equal bits from equal runs on a GPU, or an error of torch's that names the operation without such a kernel."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", REPRODUCIBLE_CUBLAS)
        torch.use_deterministic_algorithms(True)
        checks: Any = torch.utils.deterministic
        checks.fill_uninitialized_memory = False


def unfit_precision(word: str, on_gpu: bool, rtol: float | None) -> str | None:
    """Why a run cannot compute so; None if it can. ``rtol`` is that of adaptive steps."""
    if word == "tf32" and not on_gpu:
        return "trainer.precision=tf32 is how a GPU rounds: leave it out on a CPU"
    floor = FLOOR.get(word)
    if floor is None or rtol is None or rtol >= floor:
        return None
    return (
        f"trainer.precision={word} rounds f by {floor:.1e}, and no step size makes the error smaller: give a "
        f"tolerance of at least {floor:.0e}, or trainer.precision=float32"
    )
