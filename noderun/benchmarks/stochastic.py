"""The suite stochastic: solves and gradients of a neural SDE, its memory, and the Brownian path alone."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noderun.benchmarks import libraries
from noderun.benchmarks.case import Case, Contenders, Errors, Failure, as_arrays, distance, reason
from noderun.benchmarks.memory import MemoryRow
from noderun.sde import SOLVERS, BrownianPath, sdesolve
from noderun.training.memory import MIB, PeakLedger

DIFFRAX = {
    "euler": "Euler",
    "milstein": "ItoMilstein",
    "heun": "Heun",
    "midpoint": "Midpoint",
    "reversible_heun": "ReversibleHeun",
}
ALLOWED = 0.1  # relative error of the mean over the samples: a path of its own for every library
STEPS, OUTPUTS, SIZE, WIDTH = 128, 8, 4, 32
MANY = 5000  # samples for the mean that others are compared with


class NeuralSDE(nn.Module):
    """dy = MLP(y) dt + 0.2 sigmoid(w y + 1) dW, with the attributes that torchsde asks for."""

    noise_type = "diagonal"

    def __init__(self, solver: str) -> None:
        super().__init__()
        self.sde_type = SOLVERS[solver].interpretations[0]
        generator = torch.Generator().manual_seed(0)
        self.net = nn.Sequential(nn.Linear(SIZE, WIDTH), nn.Tanh(), nn.Linear(WIDTH, SIZE))
        self.w = nn.Parameter(torch.empty(SIZE))
        for p in self.parameters():
            nn.init.normal_(p, std=0.3, generator=generator)

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y)

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        return 0.2 * torch.sigmoid(self.w * y + 1)


Solve = Callable[[NeuralSDE, Tensor, int], Tensor]  # the equation, y0 and the number of steps -> ys


def stochastic_cases(device: str, quick: bool) -> Iterator[Case]:
    solvers, batches = (("heun",), (64,)) if quick else (tuple(DIFFRAX), (64, 1024))
    for solver in solvers:
        for batch in batches:
            yield solve_case(solver, batch, device)
    for solver in ("heun",) if quick else ("euler", "heun", "reversible_heun"):
        for batch in batches:
            yield gradient_case(solver, batch, device)
    yield path_case(device)


def start(batch: int, device: str) -> Tensor:
    return torch.ones(batch, SIZE, device=device)


def output_times(device: str) -> Tensor:
    return torch.linspace(0, 1, OUTPUTS + 1, device=device)


def noderun_by(solver: str, gradient: str = "checkpointed") -> Solve:
    def run(sde: NeuralSDE, y0: Tensor, steps: int) -> Tensor:
        told: dict[str, Any] = {"solver": solver, "interpretation": sde.sde_type, "gradient": gradient}
        return sdesolve(sde.f, sde.g, y0, output_times("cpu"), dt=1 / steps, **told).ys

    return run


def torchsde_by(solver: str, adjoint: bool = False) -> Solve:
    import torchsde

    reversed_by = {"adjoint_method": "adjoint_reversible_heun"} if solver == "reversible_heun" else {}

    def run(sde: NeuralSDE, y0: Tensor, steps: int) -> Tensor:
        solve = functools.partial(torchsde.sdeint_adjoint, **reversed_by) if adjoint else torchsde.sdeint
        return solve(sde, y0, output_times(str(y0.device)), method=solver, dt=1 / steps)

    return run


def bare_euler(sde: NeuralSDE, y0: Tensor, steps: int) -> Tensor:
    """Euler's method as the shortest loop that torch allows, on increments that are drawn at once."""
    y, t, h, rows = y0, y0.new_zeros(()), 1 / steps, [y0]
    for step, dw in enumerate((torch.randn(steps, *y0.shape, device=y0.device) * h**0.5).unbind(), 1):
        y = torch.addcmul(y.add(sde.f(t, y), alpha=h), sde.g(t, y), dw)
        if step % (steps // OUTPUTS) == 0:
            rows.append(y)
    return torch.stack(rows)


def solve_case(solver: str, batch: int, device: str) -> Case:
    sde, y0 = NeuralSDE(solver).to(device), start(batch, device)

    def plain(run: Solve) -> Callable[[], Tensor]:
        return torch.no_grad()(lambda: run(sde, y0, STEPS))

    contenders: Contenders = {"noderun": plain(noderun_by(solver))}
    there = libraries.installed()
    if there["torchsde"]:
        contenders["torchsde"] = plain(torchsde_by(solver))
    if there["diffrax"]:
        contenders["diffrax"] = diffrax_solve(sde, y0, solver)
    if solver == "euler":
        contenders["bare loop"] = plain(bare_euler)

    @functools.cache
    def truth() -> list[np.ndarray]:
        with torch.no_grad():
            return as_arrays(noderun_by(solver)(sde, start(MANY, device), STEPS).mean(1))

    def error(run: Callable[[], Any]) -> float:
        return distance([as_arrays(run())[0].mean(1)], truth())

    errors: Errors = {name: functools.partial(error, run) for name, run in contenders.items()}
    return Case("stochastic", f"solve, {solver}, B = {batch}", contenders, errors, ALLOWED)


def gradient_case(solver: str, batch: int, device: str) -> Case:
    """The gradient of the sum of squares of all outputs; that of the mean over the samples is what is compared."""
    sde, y0 = NeuralSDE(solver).to(device), start(batch, device).requires_grad_()
    reversible = solver == "reversible_heun"

    def gradient(run: Solve, y0: Tensor = y0) -> list[Tensor]:
        loss = run(sde, y0, STEPS)[1:].square().sum() / len(y0)
        by_y0, *by_params = torch.autograd.grad(loss, [y0, *sde.parameters()])
        return [by_y0.sum(0), *by_params]

    names = ("backprop", "checkpointed", "adjoint") + (("reversible",) if reversible else ())
    runs = {f"noderun {name}": noderun_by(solver, name) for name in names}
    there = libraries.installed()
    if there["torchsde"]:
        runs["torchsde backprop"] = torchsde_by(solver)
        runs[f"torchsde {'reversible' if reversible else 'adjoint'}"] = torchsde_by(solver, adjoint=True)
    if solver == "euler":
        runs["bare loop"] = bare_euler
    contenders: Contenders = {name: functools.partial(gradient, run) for name, run in runs.items()}
    if there["diffrax"]:
        contenders["diffrax checkpointed"] = diffrax_gradient(sde, y0, solver)

    @functools.cache
    def truth() -> list[np.ndarray]:
        return as_arrays(gradient(noderun_by(solver), start(MANY, device).requires_grad_()))

    def error(run: Callable[[], Any]) -> float:
        return distance(as_arrays(run()), truth())

    errors: Errors = {name: functools.partial(error, run) for name, run in contenders.items()}
    return Case("stochastic", f"gradient, {solver}, B = {batch}", contenders, errors, ALLOWED)


def diffrax_function(sde: NeuralSDE, batch: int, solver: str) -> tuple[list[Any], Callable[..., Any]]:
    """(weights, solve(y0, weights, key) -> ys [T, B, D]), to be jitted."""
    import diffrax
    import jax.numpy as jnp
    import lineax

    weights = [jnp.asarray(p.detach().cpu().numpy()) for p in (*sde.net.parameters(), sde.w)]
    ts = jnp.linspace(0.0, 1.0, OUTPUTS + 1)

    def drift(t: Any, y: Any, ws: Any) -> Any:
        return jnp.tanh(y @ ws[0].T + ws[1]) @ ws[2].T + ws[3]

    def diffusion(t: Any, y: Any, ws: Any) -> Any:
        return lineax.DiagonalLinearOperator(0.2 / (1 + jnp.exp(-(ws[4] * y + 1))))

    def solve(y0: Any, ws: Any, key: Any) -> Any:
        path = diffrax.VirtualBrownianTree(0.0, 1.0, tol=0.5 / STEPS, shape=(batch, SIZE), key=key)
        terms: Any = diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(diffusion, path))
        method = getattr(diffrax, DIFFRAX[solver])()
        saveat = diffrax.SaveAt(ts=ts)
        return diffrax.diffeqsolve(terms, method, 0.0, 1.0, 1 / STEPS, y0, ws, saveat=saveat, max_steps=4096).ys

    return weights, solve


def diffrax_solve(sde: NeuralSDE, y0: Tensor, solver: str) -> Callable[[], Any]:
    import jax

    weights, solve = diffrax_function(sde, len(y0), solver)
    jitted, start, key = jax.jit(solve), jax.numpy.asarray(y0.cpu().numpy()), jax.random.PRNGKey(0)
    return lambda: jitted(start, weights, key).block_until_ready()


def diffrax_gradient(sde: NeuralSDE, y0: Tensor, solver: str) -> Callable[[], Any]:
    import jax

    weights, solve = diffrax_function(sde, len(y0), solver)
    start, key = jax.numpy.asarray(y0.detach().cpu().numpy()), jax.random.PRNGKey(0)
    jitted = jax.jit(jax.grad(lambda y, w: (solve(y, w, key)[1:] ** 2).sum() / len(y0), argnums=(0, 1)))

    def gradient() -> list[Any]:
        by_y0, (*by_net, by_w) = jax.block_until_ready(jitted(start, weights))
        return [by_y0.sum(0), by_w, *by_net]  # in the order of the Module's parameters

    return gradient


def path_case(device: str) -> Case:
    """The time of 100 increments of [1024, 4]; a new path in every call."""
    grid = [i / 100 for i in range(101)]
    in_order = list(zip(grid, grid[1:], strict=False))
    shuffled = random.Random(0).sample(in_order, 100)
    between = sorted(random.Random(0).random() for _ in range(101))
    off_grid = list(zip(between, between[1:], strict=False))

    def ask(make: Callable[[], Any], queries: Sequence[tuple[float, float]]) -> Callable[[], Any]:
        def run() -> None:
            path = make()
            for s, t in queries:
                path(s, t)

        return run

    def ours() -> BrownianPath:
        return BrownianPath(grid, (1024, 4), device=device)

    contenders: Contenders = {
        "noderun in order": ask(ours, in_order),
        "noderun shuffled": ask(ours, shuffled),
        "noderun between the cells' ends": ask(ours, off_grid),
        "torch.randn": lambda: [torch.randn(1024, 4, device=device) for _ in in_order],
    }
    if libraries.installed()["torchsde"]:
        from torchsde import BrownianInterval

        for name, told in (("", {}), (" halfway_tree", {"halfway_tree": True, "tol": 1e-4})):
            make = functools.partial(BrownianInterval, 0.0, 1.0, size=(1024, 4), device=device, **told)
            contenders[f"torchsde{name} in order"] = ask(make, in_order)
    if libraries.installed()["diffrax"]:
        contenders["diffrax in order"] = diffrax_path(in_order)
    return Case("stochastic", "100 increments of [1024, 4]", contenders, {}, ALLOWED)


def diffrax_path(queries: Sequence[tuple[float, float]]) -> Callable[[], Any]:
    import diffrax
    import jax

    path = diffrax.VirtualBrownianTree(0.0, 1.0, tol=1e-3, shape=(1024, 4), key=jax.random.PRNGKey(0))
    jitted = jax.jit(lambda s, t: path.evaluate(s, t))
    return lambda: [jitted(s, t).block_until_ready() for s, t in queries]


def stochastic_memory(device: str, quick: bool) -> Iterator[list[MemoryRow] | Failure]:
    """What each gradient of reversible Heun's method holds, over the number of steps."""
    runs = {
        f"noderun {g}": noderun_by("reversible_heun", g) for g in ("backprop", "checkpointed", "adjoint", "reversible")
    }
    if libraries.installed()["torchsde"]:
        runs |= {"torchsde backprop": torchsde_by("reversible_heun")}
        runs |= {"torchsde reversible": torchsde_by("reversible_heun", adjoint=True)}
    case = f"Neural SDE, reversible Heun, B = {1024}"
    for name, run in runs.items():
        try:
            yield [memory_row(case, name, run, n, device) for n in ((16, 32) if quick else (64, 128, 256, 512, 1024))]
        except Exception as error:
            yield Failure("memory", case, name, reason(error))


def memory_row(case: str, name: str, run: Solve, steps: int, device: str) -> MemoryRow:
    sde, y0 = NeuralSDE("reversible_heun").to(device), start(1024, device).requires_grad_()
    params = list(sde.parameters())
    with PeakLedger(y0, *params) as ledger:
        ys = run(sde, y0, steps)
        held = ledger.held_bytes(y0, ys, *params)
        torch.autograd.grad(ys[1:].square().sum(), [y0, *params])
    return MemoryRow("memory", case, name, steps, held / MIB, ledger.peak / MIB, 0.0)
