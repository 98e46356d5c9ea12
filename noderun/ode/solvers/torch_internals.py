"""All that noderun uses of torch beyond its public interface: why, and the fallback if it is missing.

Any release of torch may change what is here, so nothing else in noderun names a private part of it (a test walks the
AST). What only compiled steps need is looked up while a graph is made: if a name is missing there, the fallback is the
eager step, after one warning.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

try:  # the one hook below autograd, which shows what an operation makes and writes to, also in a backward pass
    from torch.utils._python_dispatch import TorchDispatchMode as OperationMode
except ImportError:

    class OperationMode:  # type: ignore[no-redef]
        """In its place: nothing that rests on it is measured or compiled."""

        def __init__(self) -> None:
            raise NotImplementedError(f"torch {torch.__version__} has no mode that sees every operation")


def under_transform() -> bool:
    """Whether torch.func (vmap, jvp, grad) or forward-mode autograd is at work: they need out-of-place operations.

    Private, because the public way to find out takes ten times as long, in every solve.
    """
    try:
        return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
    except AttributeError:
        return refuses_plain_functions() or has_dual_level()


class Plain(torch.autograd.Function):
    """Without ``setup_context``, which torch.func asks of every Function."""

    @staticmethod
    def forward(ctx: Any) -> None:
        return None


def refuses_plain_functions() -> bool:
    """The public sign of a transform of torch.func."""
    try:
        Plain.apply()
    except RuntimeError:
        return True
    return False


def has_dual_level() -> bool:
    """The public sign of forward-mode autograd: levels count from 0, and another within one is refused so far."""
    try:
        level = forward_ad.enter_dual_level()
    except RuntimeError:
        return True
    forward_ad.exit_dual_level(level=level)
    return level > 0


def was_written(y: Tensor, before: Tensor, version: int | None) -> bool:
    """Whether y was changed in place since its ``version``; without one (inference mode) by what it was ``before``.

    Private, because a comparison of values makes the host wait for a GPU.
    """
    return not torch.equal(y, before) if version is None else version_of(y) != version


def version_of(y: Tensor) -> int | None:
    try:
        return None if y.is_inference() else int(y._version)
    except AttributeError:
        return None


def add_to_each(totals: list[Tensor], terms: list[Tensor], alpha: float = 1.0) -> None:
    """total += alpha term, for all of them; private, because the public way launches a kernel for each on a GPU."""
    try:
        torch._foreach_add_(totals, terms, alpha=alpha)
    except AttributeError:
        for total, term in zip(totals, terms, strict=True):
            total.add_(term, alpha=alpha)


def operations_are_watched() -> bool:
    """Whether a dispatch mode is active, in which the compiler makes no graphs; there is no public way to tell."""
    try:
        return bool(torch._C._len_torch_dispatch_stack())
    except AttributeError:
        return False


# What only compiled steps need:


def loop(
    going: Callable[..., Tensor], body: Callable[..., tuple[Tensor, ...]], state: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """A loop within a graph, whose interface torch may still change; looked up when it is traced."""
    found: tuple[Tensor, ...] = torch.while_loop(going, body, state)
    return found


def without_data(tensors: Sequence[Any]) -> tuple[Any, list[Any]]:
    """A mode in which a graph runs without computing, and the tensors as they are in it; only the compiler has one."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    return mode, [mode.from_tensor(x) if isinstance(x, Tensor) else x for x in tensors]


def written_to(operation: Any, args: Sequence[Any]) -> Iterator[Tensor]:
    """The arguments that an operation changes, which only its schema tells."""
    for value, argument in zip(args, operation._schema.arguments, strict=False):
        if argument.alias_info is not None and argument.alias_info.is_write and isinstance(value, Tensor):
            yield value


def graph_pass(change: Callable[[torch.fx.Graph], None], name: str) -> Any:
    """``change`` as the compiler calls it on a graph of its own operations; backends see a graph before that only."""
    from torch._inductor.custom_graph_pass import CustomGraphPass

    class Pass(CustomGraphPass):
        def __call__(self, graph: torch.fx.Graph) -> None:
            change(graph)

        def uuid(self) -> str:
            return name

    return Pass()


def decompositions() -> dict[Any, Callable[..., Any]]:
    """The compiler's decompositions of operations; ``torch.compile`` takes no table of one's own."""
    from torch._inductor.decomposition import select_decomp_table

    return dict(select_decomp_table())


def code_of(
    module: torch.fx.GraphModule,
    inputs: Sequence[Any],
    options: Mapping[str, Any],
    table: Mapping[Any, Callable[..., Any]],
) -> Any:
    """The graph as code; ``torch.compile`` hands its own backend neither the table nor the setting of buffers.

    A graph that may be gone through twice (retain_graph) must not give its buffers away.
    """
    from torch._inductor.compile_fx import compile_fx

    with torch._functorch.config.patch(donated_buffer=False):
        return compile_fx(module, list(inputs), config_patches=dict(options), decompositions=dict(table))


def hit_recompile_limit(error: BaseException) -> bool:
    """Whether the compiler gave up because f changes; its message is about its own settings."""
    return type(error).__name__ == "FailOnRecompileLimitHit"


@contextmanager
def quiet_compiler() -> Iterator[None]:
    """Suppress the compiler's remarks on itself (what of it is deprecated, how an operation is lowered, that there is
    no GPU), which no user can act on.
    """
    loggers = [logging.getLogger(name) for name in ("torch._inductor.ir", "torch.utils.cpp_extension")]
    levels = {logger: logger.level for logger in loggers}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
