"""Rows for figures: test examples along the depth of a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from noderun.models import ODEBlock
from noderun.models.lesion import block_count
from noderun.training.setup import Setup

Rows = list[dict[str, Any]]
Plane = tuple[int, int]  # two components of a state, from 1
EXAMPLES, TIMES, GRID = 60, 41, 81
EULER_STEPS = 6  # as many as Chen et al.'s residual net has blocks


def test_examples(setup: Setup, count: int = EXAMPLES) -> tuple[Tensor, Tensor]:
    """Inputs and targets of ``count`` test examples, spread over the split, which may be sorted by class."""
    found = list(setup.batches("test", 0, 0))
    if not all(isinstance(batch.targets, Tensor) and batch.times is None for batch in found):
        raise ValueError("such figures are of models with one input and one target per example")
    inputs = torch.cat([batch.inputs for batch in found])
    targets = torch.cat([batch.targets for batch in found if batch.targets is not None])
    chosen = torch.linspace(0, len(inputs) - 1, min(count, len(inputs)), device=inputs.device).long()
    return inputs[chosen], targets[chosen]


@contextmanager
def inputs_of(modules: list[nn.Module]) -> Iterator[dict[int, Tensor]]:
    """Notes what each module (by its place in the list) is given."""
    seen: dict[int, Tensor] = {}

    def noting(i: int) -> Callable[..., None]:
        return lambda module, given: seen.__setitem__(i, given[0].detach())

    handles = [module.register_forward_pre_hook(noting(i)) for i, module in enumerate(modules)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def start_of(setup: Setup, inputs: Tensor) -> tuple[ODEBlock, Tensor]:
    """The first ODEBlock and the state that it is given; ValueError if there is none."""
    block = next((block for block in setup.blocks if isinstance(block, ODEBlock)), None)
    if block is None:
        raise ValueError(f"{type(setup.model).__name__} has no ODEBlock, so there is no such figure of it")
    with inputs_of([block]) as seen:
        setup.model(inputs)
    return block, seen[0].float()


@torch.no_grad()
def along_depth(setup: Setup) -> tuple[list[float], list[Tensor], Tensor]:
    """Depths, the state [B, ...] at each, and targets [B]: times of a solve, or the places between a chain's blocks."""
    inputs, targets = test_examples(setup)
    if setup.blocks:
        block, y0 = start_of(setup, inputs)
        times = torch.linspace(0, block.t1, TIMES).tolist()
        return times, list(block.solve(block.dynamics, y0, times).ys), targets
    if not block_count(setup.model):
        raise ValueError(f"{type(setup.model).__name__} has neither a solve nor a chain of blocks, so no depth to show")
    chain: Any = setup.model.blocks
    states: list[Tensor] = []
    handle = chain.register_forward_hook(lambda module, given, output: states.append(output.detach()))
    with inputs_of(list(chain)) as seen:
        setup.model(inputs)
    handle.remove()
    states = [*(seen[i] for i in range(len(chain))), *states]
    return [float(i) for i in range(len(states))], states, targets


def labels(targets: Tensor) -> list[Any]:
    """The class of each example, of targets -1 and 1 too; None if targets are not classes."""
    if targets.is_floating_point():
        two = targets.numel() == len(targets) and bool((targets.abs() == 1).all())
        return (targets.flatten() > 0).int().tolist() if two else [None] * len(targets)
    return targets.tolist()


def trajectory_rows(setup: Setup, plane: Plane | None = None) -> Rows:
    """The state over depth in a plane: ``plane``, the state's own, or that of its first principal components."""
    times, found, targets = along_depth(setup)
    states = torch.stack([state.flatten(1) for state in found])
    shown, share = (states[..., places(plane, states.shape[2])], None) if plane else in_a_plane(states)
    axes = dict(zip(("x component", "y component"), plane or (1, 2), strict=True)) if share is None else {}
    return [
        {"example": i, "class": label, "depth": round(t, 5), "x": x, "y": y, "variance share": share} | axes
        for t, points in zip(times, rounded(shown), strict=True)
        for i, (label, (x, y)) in enumerate(zip(labels(targets), points, strict=True))
    ]


def places(plane: Plane, size: int) -> list[int]:
    """The places of two components in a state of ``size`` numbers; ValueError if it has no such components."""
    if max(plane) > size:
        raise ValueError(f"plane=[{plane[0]},{plane[1]}] names component {max(plane)} of a state that has {size}")
    return [component - 1 for component in plane]


def in_a_plane(states: Tensor) -> tuple[Tensor, float | None]:
    """[times, B, dimensions] to [times, B, 2], and the share of the variance (all times together) that it shows.

    None if nothing was projected. A component points to where its largest weight is positive, so that one epoch's
    picture is not the mirror image of the last one's.
    """
    if states.shape[2] <= 2:
        return torch.cat([states, states.new_zeros(*states.shape[:2], 2 - states.shape[2])], 2), None
    centered = states.flatten(0, 1) - states.flatten(0, 1).mean(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of the randomized SVD
        _, sizes, axes = torch.pca_lowrank(centered, q=min(6, *centered.shape), center=False)
    axes = axes[:, :2] * axes[:, :2].gather(0, axes[:, :2].abs().argmax(0, keepdim=True)).sign()
    share = float(sizes[:2].square().sum() / centered.square().sum())
    return (centered @ axes).unflatten(0, states.shape[:2]), share


def rounded(values: Tensor) -> Any:
    """Nested lists of what a figure can show of the numbers."""
    return (values.double() * 1e5).round().div(1e5).tolist()


@torch.no_grad()
def step_rows(setup: Setup) -> Rows:
    """Where the accepted steps of one batch's solve begin, and how long they are."""
    block, y0 = start_of(setup, test_examples(setup)[0])
    ts = block.solve(block.dynamics, y0, [0.0, block.t1], steps=True).ts.tolist()
    return [{"t": a, "step": b - a} for a, b in zip(ts, ts[1:], strict=False)]


@torch.no_grad()
def nfe_rows(setup: Setup) -> Rows:
    """NFE of each test example of one batch, solved with steps of its own, and whether the batch's answer is right."""
    inputs, targets = test_examples(setup, 256)
    block, y0 = start_of(setup, inputs)
    own = block.solve(block.dynamics, y0, [0.0, block.t1], per_sample=True, compile=False)
    counts = own.stats.nfe_forward.tolist()
    outputs = setup.model(inputs).flatten(1)
    guesses = outputs.argmax(1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).int()
    rows = zip(counts, labels(targets), guesses.tolist(), strict=True)
    return [
        {"example": i, "class": c, "nfe": n, "right": None if c is None else c == g} for i, (n, c, g) in enumerate(rows)
    ]


@torch.no_grad()
def flow_rows(setup: Setup, plane: Plane | None = None) -> Rows:
    """Curves of the ODE, the polygons of a residual net of the same field (Euler), and the field; 1 or 2 dimensions.

    Of a state with more, two components are shown: the curves are projected, the field is that on a slice.
    """
    inputs, targets = test_examples(setup, 24)
    block, y0 = start_of(setup, inputs)
    size = y0[0].numel()
    if size > 2 and plane is None:
        raise ValueError(f"a flow is drawn in 1 or 2 dimensions, and this state has {size}: name two by plane=[1,2]")
    shown = places(plane, size) if plane else list(range(size))
    curve = torch.linspace(0, block.t1, TIMES).tolist()
    polygon = torch.linspace(0, block.t1, EULER_STEPS + 1).tolist()
    ys = block.solve(block.dynamics, y0, curve).ys
    euler = {"solver": "euler", "dt": block.t1 / EULER_STEPS, "solver_options": None, "compile": False}
    steps = block.solve(block.dynamics, y0, polygon, **euler).ys
    axes = dict(zip(("x component", "y component"), (place + 1 for place in shown), strict=False))
    rows: Rows = [
        {"kind": kind, "example": i, "class": label, "t": t, "x": y[0], "y": y[1] if len(shown) > 1 else None} | axes
        for kind, times, found in (("ode", curve, ys), ("euler", polygon, steps))
        for t, states in zip(times, found.flatten(2)[..., shown].tolist(), strict=True)
        for i, (y, label) in enumerate(zip(states, labels(targets), strict=True))
    ]
    return rows + field_rows(block, ys[TIMES // 2].mean(0), shown, rows)


def field_rows(block: ODEBlock, middle: Tensor, shown: list[int], rows: Rows) -> Rows:
    """The field on a grid over what the curves span: (t, x) of one component, (x, y) at half time of two.

    The components that are not shown are those of ``middle``, the mean state at half time.
    """
    names = ("t", "x") if len(shown) == 1 else ("x", "y")
    spans = [torch.linspace(min(r[n] for r in rows), max(r[n] for r in rows), 15).tolist() for n in names]
    found: Rows = []
    for a in spans[0]:
        at = middle.new_tensor(a if names[0] == "t" else block.t1 / 2)
        states = middle.flatten().repeat(len(spans[1]), 1)
        states[:, shown] = middle.new_tensor([[b] if names[0] == "t" else [a, b] for b in spans[1]])
        slopes = block.dynamics(at, states.reshape(-1, *middle.shape)).flatten(1)[:, shown].tolist()
        for b, slope in zip(spans[1], slopes, strict=True):
            along = [1.0, *slope] if names[0] == "t" else slope
            found.append({"kind": "field", names[0]: a, names[1]: b, "u": along[0], "v": along[1]})
    return found


@torch.no_grad()
def decision_rows(setup: Setup) -> Rows:
    """The model's class on a grid over the plane, and test examples; ValueError if inputs are not points in a plane."""
    inputs, targets = test_examples(setup, 256)
    if inputs.shape[1:] != (2,) or labels(targets)[0] is None:
        raise ValueError(f"a decision map needs classes of points in a plane; an input is {list(inputs.shape[1:])}")
    low, high = inputs.min(0).values, inputs.max(0).values
    margin = 0.15 * (high - low)
    xs, ys = (torch.linspace(float(a), float(b), GRID) for a, b in zip(low - margin, high + margin, strict=True))
    points = torch.cartesian_prod(xs, ys).to(inputs)
    outputs = setup.model(points).float()
    # the side of the boundary and how surely: of one output its sign, of two classes the probability of the second
    score = torch.sigmoid(2 * outputs[:, 0]) if outputs.shape[1] == 1 else outputs.softmax(1)[:, 1]
    grid = [
        {"kind": "map", "x": x, "y": y, "score": s} for (x, y), s in zip(rounded(points), rounded(score), strict=True)
    ]
    tested = zip(rounded(inputs), targets.tolist(), strict=True)
    return grid + [{"kind": "test", "x": x, "y": y, "class": int(label > 0)} for (x, y), label in tested]


def norm_rows(setup: Setup) -> Rows:
    """The mean norm of the state at each depth, and of what is added to it until the next."""
    depths, states, _ = along_depth(setup)
    per = 1.0 if not setup.blocks else depths[1] - depths[0]
    norms = [float(state.flatten(1).norm(dim=1).mean()) for state in states]
    added = [float((b - a).flatten(1).norm(dim=1).mean()) / per for a, b in zip(states, states[1:], strict=False)]
    kind = "residual of the block" if not setup.blocks else "field f(t, y)"
    return [
        {"depth": d, "state": n, "residual": r, "kind": kind}
        for d, n, r in zip(depths, norms, [*added, None], strict=True)
    ]
