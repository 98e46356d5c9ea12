"""Settings of the compiler: two operations of a CPU that it makes slower, and rounding in half precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.torch_internals import decompositions, graph_pass

aten = torch.ops.aten


def keep_vector_math(graph: torch.fx.Graph) -> None:
    """Leave tanh of more than 1000 elements on a CPU to torch's own vector mathematics library.

    It is several times faster than generated code: 317 to 209 us per step of a small net at B = 128, 2250 to 1150 us at
    B = 1024 (torch 2.14, one thread). Below some hundred elements the call costs more than it saves.
    """
    for node in graph.nodes:
        if node.target is aten.tanh.default and node.meta["val"].numel() > 1000:
            node.meta.setdefault("custom", {})["fallback_to_eager"] = True  # stays with the body of a loop


def lowering(inputs: Sequence[Any]) -> dict[str, Any]:
    """Options of the compiler: half precision is rounded as f does it; on a CPU a whole graph is one C++ function."""
    options: dict[str, Any] = {"emulate_precision_casts": True}
    if all(x.device.type == "cpu" for x in inputs if isinstance(x, Tensor)):
        vector_math = graph_pass(keep_vector_math, "noderun: tanh of more than 1000, loops too")
        options |= {"cpp_wrapper": True, "post_grad_custom_post_pass": vector_math}
    return options


def small_products() -> dict[Any, Callable[..., Any]]:
    """The compiler's decompositions, with a row times a small matrix on a CPU as a loop instead of a call of BLAS.

    The call costs more than the product: 573 to 392 us per solve of a small net at B = 1, and 2089 to 1650 us per
    gradient by checkpointed (torch 2.14, one thread).
    """
    table = decompositions()
    mm, addmm = table[aten.mm.default], table[aten.addmm.default]

    def product(a: Tensor, b: Tensor, *rest: Any, **options: Any) -> Any:
        if is_small(a, b) and not (rest or options):
            return (a.t() * b).sum(dim=0, keepdim=True)
        return mm(a, b, *rest, **options)

    def sum_with_product(c: Tensor, a: Tensor, b: Tensor, *rest: Any, **options: Any) -> Any:
        if is_small(a, b) and not (rest or options):
            return c + (a.t() * b).sum(dim=0, keepdim=True)
        return addmm(c, a, b, *rest, **options)

    return table | {aten.mm.default: product, aten.addmm.default: sum_with_product}


def is_small(row: Tensor, matrix: Tensor) -> bool:
    full = row.dtype in (torch.float32, torch.float64)
    return full and row.device.type == "cpu" and row.shape[0] == 1 and matrix.numel() <= 128 * 128
