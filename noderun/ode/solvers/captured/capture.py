"""A function of tensors at fixed addresses as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

WARM_UPS = 3  # calls before a capture, in which cuDNN and cuBLAS choose their kernels and make their work spaces


class Capture:
    """``work`` reads and writes tensors at fixed addresses; each call does it again, on CUDA by one launch of a graph.

    On other devices a call runs the function itself. The graph is made at the first call, after ``WARM_UPS`` calls of
    the function, which must therefore change nothing while ``inert`` has been called.
    """

    def __init__(self, work: Callable[[], None], inert: Callable[[], None], device: torch.device, pool: Any) -> None:
        self.work, self.inert, self.device, self.pool = work, inert, device, pool
        self.graph: torch.cuda.CUDAGraph | None = None

    def prepare(self) -> None:
        """Make the graph now: what the tensors hold is lost."""
        if self.device.type != "cuda" or self.graph is not None:
            return
        self.inert()
        # Not on the default stream: what autograd left there would be waited for, which a capture forbids.
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self.work()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=stream, capture_error_mode="thread_local"):
            self.work()
        self.graph = graph

    def __call__(self) -> None:
        if self.graph is not None:
            self.graph.replay()
        else:
            self.work()
