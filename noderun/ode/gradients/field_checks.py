"""Checks of f before a solve that is to be differentiated, and again in the backward pass.

A gradient method calls f again, at other points and under autograd. Its result would be silently wrong if f used
tensors that the method does not know, if autograd did not see that f depends on y, or if f had changed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from noderun.ode.solvers.field import IN_PLACE, VectorField, evaluate, fingerprint
from noderun.ode.solvers.graphed import GraphedRungeKutta
from noderun.ode.solvers.integrate import Problem
from noderun.ode.solvers.nesting import map_tensors, tensors_in
from noderun.ode.solvers.times import stage_times
from noderun.ode.solvers.torch_internals import version_of

Call = Callable[[Tensor, tuple[Any, ...]], list[Tensor]]  # y and args -> f as tensors

CUT = (
    "f changes with y, but autograd does not see it: a part of f was computed by numpy, .item(), torch.tensor(...), "
    ".detach(), under no_grad, or by autograd.grad without create_graph=True; compute it with differentiable operations"
)
CHANGED = (
    "f is not the function that the forward solve called: at the same (t, y) it gives another value; pass what changes "
    "from solve to solve (an attribute, a buffer) in args=, or use gradient='backprop' with compile=False"
)


def check_unchanged(
    gradient: str, witness: tuple[float, Tensor] | None, dtype: torch.dtype | None, call: Callable[[float], Tensor]
) -> None:
    """RuntimeError if f differs from its fingerprint of the forward pass; ``call`` evaluates it at a given time.

    ``dtype`` is that of f's own arithmetic, None if it is the state's.
    """
    if witness is None:
        return
    t, then = witness
    value = call(t)
    eps = torch.finfo(dtype or value.dtype).eps
    if bool(((fingerprint(value) - then).abs() > eps**0.5 * then[0]).any()):
        raise_changed(gradient, value, call(t))


def differs(y: Tensor, then: Tensor, now: Tensor, dtype: torch.dtype | None, iterated: bool = False) -> bool:
    """Whether a repeated step from y ends elsewhere, by more than the round-off of f's ``dtype``.

    What was ``iterated`` is known only to the round-off of 1 + |y|, see ``Newton.scale``.
    """
    eps, size = torch.finfo(dtype or y.dtype).eps, torch.linalg.vector_norm
    known = size(y) + (y.numel() ** 0.5 if iterated else 0.0)
    allowed = eps**0.5 * size(then - y) + 100 * torch.finfo(y.dtype).eps * known
    return bool(size(now - then) > allowed)


def raise_changed(gradient: str, one: Tensor, two: Tensor) -> NoReturn:
    """RuntimeError that says why f differs from the forward pass, by two values of it at the same point."""
    if torch.equal(one, two):
        raise RuntimeError(CHANGED)
    raise RuntimeError(
        f"f is stochastic: called again at the same (t, y) it gives another value, and gradient='{gradient}' "
        "calls it again; draw its noise once before each solve and pass it in args=, or use gradient='backprop'"
    )


def check_field_unchanged(gradient: str, problem: Problem, field: VectorField, ys: Tensor) -> None:
    """``check_unchanged`` for one solution [rows, N] and the field of its backward pass; does not count in the NFE."""
    before = field.nfe

    def call(t: float) -> Tensor:
        return evaluate(field, t, ys[0 if t == problem.ts[0] else problem.outputs.asked[-1]])

    check_unchanged(gradient, field.witness, field.autocast.dtype, call)
    field.nfe = before


def examine_field(problem: Problem, strict: bool = True) -> None:
    """``check_field``, for an f that has graphs once and for all."""
    method, y0 = problem.method, problem.y0
    graphs = method.graphs_to_differentiate(problem.field, y0) if isinstance(method, GraphedRungeKutta) else None
    if graphs is None or not graphs.examined:
        check_field(problem.field, problem.ts[0], y0, problem.params, strict)
    if graphs is not None:
        graphs.examined = graphs.examined or strict


def check_field(field: VectorField, t: float, y0: Tensor, params: Sequence[Tensor], strict: bool) -> None:
    """Check f by one call at (t, y0), whose value the solve then uses as its own first one.

    ValueError if f cannot be differentiated; with ``strict`` also if it uses tensors that require gradients and are
    neither in ``params`` nor in args.
    """
    (time,) = stage_times(t, 0.0, (0.0,), y0, field.bounds)

    def call(y: Tensor, args: tuple[Any, ...]) -> list[Tensor]:
        probe = copy.copy(field)
        probe.args = args
        return probe.called(time, y)

    found = checked_values(call, y0, field.args, params, strict)
    field.known = (y0, found)
    field.witness = (t, fingerprint(torch.cat([x.reshape(-1) for x in found]).to(y0.dtype)))


def checked_values(
    call: Call, y0: Tensor, args: tuple[Any, ...], params: Sequence[Tensor], strict: bool
) -> list[Tensor]:
    """The tensors that f returns at y0, detached; ValueError as for ``check_field``."""
    fresh = map_tensors(lambda x: x.detach().requires_grad_() if x.requires_grad else x, args)
    leaf = y0.detach().clone().requires_grad_()
    with torch.enable_grad():
        state = leaf.clone()
        found = call(state, fresh)
    if version_of(state):
        raise ValueError(IN_PLACE)
    stops = {p.grad_fn for p in params if p.grad_fn is not None}
    reached = [leaves_of(x, stops) for x in found]
    if strict:
        refuse_undeclared(reached, [leaf, *params, *tensors_in(fresh)])
    blind = [i for i, leaves in enumerate(reached) if id(leaf) not in leaves]
    if blind:
        refuse_cut_graph(call, leaf, fresh, found, blind)
    return [x.detach() for x in found]


def leaves_of(value: Tensor, stops: Collection[Any]) -> dict[int, Tensor]:
    """The leaves of the autograd graph behind a tensor by their id; the nodes ``stops`` are not followed further."""
    if value.is_leaf:
        return {id(value): value} if value.requires_grad else {}
    leaves: dict[int, Tensor] = {}
    seen, ahead = set(stops), [value.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        ahead.extend(following for following, _ in node.next_functions)
        variable = getattr(node, "variable", None)  # of the nodes that gather a leaf's gradient
        if isinstance(variable, Tensor):
            leaves[id(variable)] = variable
    return leaves


def refuse_undeclared(reached: Sequence[dict[int, Tensor]], known: Sequence[Tensor]) -> None:
    """ValueError if f reached leaves that are not among the ``known`` tensors."""
    names = {id(x) for x in known}
    hidden = {key: x for leaves in reached for key, x in leaves.items() if key not in names}
    if hidden:
        shapes = ", ".join(str(list(x.shape)) for x in list(hidden.values())[:3])
        raise ValueError(
            f"f uses tensors that require gradients and cannot be found ({len(hidden)}, of shape {shapes}): register "
            "them in f's Module, name them with params= (all that f depends on), or use gradient='backprop'"
        )


def refuse_cut_graph(
    call: Call, leaf: Tensor, args: tuple[Any, ...], found: Sequence[Tensor], blind: Sequence[int]
) -> None:
    """ValueError if a tensor that for autograd does not depend on y (one of ``blind``) changes with y."""
    with torch.enable_grad():
        others = call((leaf + 1e-3 * (1 + leaf.abs())).detach().requires_grad_(), args)
    if not all(torch.equal(found[i].nan_to_num(), others[i].nan_to_num()) for i in blind):
        raise ValueError(CUT)
