"""Functions of tensors at fixed addresses as CUDA graphs, and those of one f."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.func import functional_call

from noderun.ode.solvers.captured.identity import Weakly, name_of
from noderun.ode.solvers.nesting import map_tensors, tensors_in

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


class Replayed(Protocol):
    """What has functions to be replayed, by name."""

    replays: dict[str, Capture]


Kind = TypeVar("Kind", bound=Replayed)


class Captures:
    """What is replayed for one f, held as it is; ``failed``: it cannot be captured."""

    def __init__(self, f: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.f, self.failed = Weakly(f), False
        self.args = map_tensors(lambda x: x.detach().clone(), args)  # at addresses that stay
        self.pool = torch.cuda.graph_pool_handle() if torch.cuda.is_available() else None

    def prepared(self, kept: dict[Any, Kind], kind: Any, make: Callable[[], Kind], names: Sequence[str]) -> Kind | None:
        """What this kind of call replays, made and captured by the first; None if it cannot be, with a warning."""
        try:
            if kind not in kept:
                with torch.inference_mode(False), torch.no_grad():  # whatever the solve that makes it runs in
                    kept[kind] = make()
            for name in names:
                kept[kind].replays[name].prepare()
        except Exception as error:
            self.fail(reason(error))
            return None
        return kept[kind]

    def differentiable(self, leaves: dict[str, Tensor]) -> Callable[..., Any]:
        """f with leaves, by the names of its parameters, that share their memory.

        Autograd inside a graph needs them, because the nodes that gather the gradients of the parameters themselves
        belong to the default stream, for which a capture may not wait.
        """
        return lambda *inputs: functional_call(self.f.own(), leaves, inputs)

    def load_args(self, args: tuple[Any, ...]) -> None:
        for own, new in zip(tensors_in(self.args), tensors_in(args), strict=True):
            own.copy_(new.detach())

    def fail(self, why: str) -> None:
        self.failed = True
        warnings.warn(
            f"{name_of(self.f.own())} cannot be captured as a CUDA graph ({why}): its solves run eagerly; f must be a "
            "function of its inputs that reads no number on the host, and whose shapes do not depend on values",
            RuntimeWarning,
            stacklevel=2,
        )


def reason(error: Exception) -> str:
    """The first line of an error."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
