"""Memory: the bytes that a forward pass holds for its backward pass, and the peak of a run."""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from noderun.ode.solvers.nesting import map_tensors, tensors_in
from noderun.ode.solvers.torch_internals import OperationMode

MIB = 2.0**20
log = logging.getLogger(__name__)


class StorageLedger(OperationMode):
    """Records, by weak reference, every storage that an operation inside makes.

    Wider than saved-tensor hooks, which see what autograd saved but not what a gradient method keeps elsewhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}  # a weak reference keeps its key from being reused

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tensors_in(out):
            self.note(tensor.untyped_storage())
        return out

    def note(self, storage: torch.UntypedStorage) -> None:
        reference = StorageWeakRef(storage)
        self._storages.setdefault(reference.cdata, (reference, storage.nbytes()))

    def held_bytes(self, *without: Tensor) -> int:
        """Bytes of the noted storages that still live, those of the tensors ``without`` left out."""
        left_out = {StorageWeakRef(tensor.untyped_storage()).cdata for tensor in without}
        return sum(size for key, (ref, size) in self._storages.items() if key not in left_out and not ref.expired())


class PeakLedger(StorageLedger):
    """Also knows the most bytes that lived at once; the tensors ``without`` are left out.

    Unlike a process's resident size it is exact for solves of a few kilobytes, and takes seconds for thousands of them.
    """

    def __init__(self, *without: Tensor) -> None:
        super().__init__()
        self.peak = 0
        self._without = {StorageWeakRef(tensor.untyped_storage()).cdata for tensor in without}
        self._bound = 0  # at least the bytes that live now

    def note(self, storage: torch.UntypedStorage) -> None:
        known = len(self._storages)
        super().note(storage)
        if len(self._storages) > known and next(reversed(self._storages)) not in self._without:
            self._bound += storage.nbytes()
            if self._bound > self.peak:
                self._storages = {key: held for key, held in self._storages.items() if not held[0].expired()}
                self._bound = sum(size for key, (_, size) in self._storages.items() if key not in self._without)
                self.peak = max(self.peak, self._bound)


def saved_bytes(run: Callable[[Any], Any], y0: Any, parameters: Iterable[Tensor]) -> int:
    """Bytes held from the end of the forward pass ``run`` to the start of its backward pass, once per storage.

    Parameters, y0 and what ``run`` returns are left out; the last two may be nested.
    """
    y0 = map_tensors(lambda y: y.detach().clone().requires_grad_(), y0)
    with torch.enable_grad(), StorageLedger() as ledger:
        out = run(y0)
    return ledger.held_bytes(*tensors_in((y0, out)), *parameters)


class PeakMemory:
    """Peak since start(), in MiB: of the CUDA allocator, or of the process's resident size on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def start(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        try:
            Path("/proc/self/clear_refs").write_text("5")  # Linux: resets VmHWM, see proc(5)
        except OSError:
            log.warning("this system cannot reset the peak resident size: memory_peak_mib counts from process start")

    def read(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / MIB
        try:
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
        except (OSError, StopIteration):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes; bytes on macOS
            return peak / MIB if sys.platform == "darwin" else peak / 1024
