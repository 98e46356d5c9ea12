"""One adapter per library: the same solve, and the same gradient of sum(y(T)^2) as numpy arrays."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from noderun.benchmarks.bare import bare_loop
from noderun.benchmarks.case import Contenders, reason
from noderun.benchmarks.problems import LotkaVolterra, MLPField, Problem, VanDerPol
from noderun.ode import BatchedSolution, Solution
from noderun.ode.engine import solve

NODERUN: dict[str, dict[str, Any]] = {  # contender -> what its solve() is told beside the problem
    "noderun": {},
    "noderun compiled": {"compile": True},
}
ON_GPU = NODERUN | {"noderun eager": {"compile": False}}  # where the others replay CUDA graphs
COMPILED = ("backprop", "checkpointed", "adjoint")  # gradients whose way back is compiled, too
PEERS = {
    "torchdiffeq": ("torchdiffeq",),
    "torchode": ("torchode",),
    "torchsde": ("torchsde",),
    "diffrax": ("diffrax", "jax"),
}


OF_FLOWS = {"zuko": ("zuko",), "torchcfm": ("torchcfm",), "normflows": ("normflows",)}  # beside PEERS


def peers(suite: str) -> dict[str, tuple[str, ...]]:
    """The libraries of a suite, each with the modules that it needs."""
    return PEERS | OF_FLOWS if suite == "flows" else PEERS


def installed(suite: str = "all") -> dict[str, bool]:
    return {name: why_absent(modules) is None for name, modules in peers(suite).items()}


@functools.cache
def why_absent(modules: tuple[str, ...]) -> str | None:
    """Why a library takes no part: it, or something that it needs, is not installed."""
    try:
        with warnings.catch_warnings(action="ignore"):
            for module in modules:
                importlib.import_module(module)
    except Exception as error:  # whatever a broken package raises
        return reason(error)
    return None


def solvers(problem: Problem) -> Contenders:
    """name -> the solve without gradients; each returns ys [T, B, D]."""
    there = installed()
    ours = {"noderun": {}} if problem.per_sample else ON_GPU if problem.y0.is_cuda else NODERUN
    contenders: Contenders = {name: partial(noderun_solve, problem, **told) for name, told in ours.items()}
    if len(problem.ts) == 2 and not problem.per_sample:
        contenders["bare loop"] = bare_loop(problem)
    if there["torchdiffeq"] and not problem.per_sample:
        contenders["torchdiffeq"] = lambda: torchdiffeq_solve(problem)
    if problem.y0.dim() != 2:  # torchode knows no other states, and the field has a jax form for none
        return contenders
    if there["torchode"]:
        contenders["torchode"] = torchode_solve(problem)
    if there["diffrax"]:
        contenders["diffrax"] = diffrax_solve(problem)
    return contenders


def gradients(problem: Problem, methods: tuple[str, ...]) -> Contenders:
    """name -> gradient of the sum of squares of all outputs but the first, with respect to y0 and the parameters."""
    there = installed()
    contenders: Contenders = {
        f"{name} {g}": torch_gradient(problem, noderun_with(g, **told))
        for name, told in (ON_GPU if problem.y0.is_cuda else NODERUN).items()
        for g in methods
        if not told.get("compile") or g in COMPILED
    }
    if there["torchdiffeq"]:
        from torchdiffeq import odeint, odeint_adjoint

        for name, ode in (("backprop", odeint), ("adjoint", odeint_adjoint)):
            contenders[f"torchdiffeq {name}"] = torch_gradient(problem, torchdiffeq_with(ode))
    if there["diffrax"] and problem.y0.dim() == 2:
        contenders["diffrax checkpointed"] = diffrax_gradient(problem)
    return contenders


def noderun_solution(problem: Problem, **told: Any) -> Solution | BatchedSolution:
    tol, own = problem.tol, problem.per_sample
    with torch.no_grad():
        return solve(problem.f, problem.y0, problem.ts, rtol=tol, atol=tol, per_sample=own, **told)


def noderun_solve(problem: Problem, **told: Any) -> Tensor:
    return noderun_solution(problem, **told).ys


def noderun_with(gradient: str, **told: Any) -> Callable[[Problem, Tensor], Tensor]:
    def run(problem: Problem, y0: Tensor) -> Tensor:
        return solve(problem.f, y0, problem.ts, rtol=problem.tol, atol=problem.tol, gradient=gradient, **told).ys

    return run


def torchdiffeq_solve(problem: Problem) -> Tensor:
    from torchdiffeq import odeint

    with torch.no_grad():
        return odeint(problem.f, problem.y0, problem.times, rtol=problem.tol, atol=problem.tol)


def torchdiffeq_with(ode: Callable[..., Tensor]) -> Callable[[Problem, Tensor], Tensor]:
    def run(problem: Problem, y0: Tensor) -> Tensor:
        return ode(problem.f, y0, problem.times, rtol=problem.tol, atol=problem.tol, method="dopri5")

    return run


def torchode_solve(problem: Problem) -> Callable[[], Tensor]:
    import torchode

    term = torchode.ODETerm(lambda t, y: problem.f(t, y))
    solver = torchode.AutoDiffAdjoint(
        torchode.Dopri5(term=term), torchode.IntegralController(atol=problem.tol, rtol=problem.tol, term=term)
    )
    times = problem.times.expand(len(problem.y0), -1)

    def run() -> Tensor:
        with torch.no_grad():
            return solver.solve(torchode.InitialValueProblem(y0=problem.y0, t_eval=times)).ys.transpose(0, 1)

    return run


def torch_gradient(problem: Problem, run: Callable[[Problem, Tensor], Tensor]) -> Callable[[], list[Tensor]]:
    wanted = list(problem.f.parameters())
    y0 = problem.y0.clone().requires_grad_()

    def gradient() -> list[Tensor]:
        loss = run(problem, y0)[1:].square().sum()
        return list(torch.autograd.grad(loss, [y0, *wanted]))

    return gradient


def jax_field(f: torch.nn.Module) -> tuple[Any, Callable[..., Any]]:
    """The field's weights and the same function in jax."""
    import jax.numpy as jnp

    if isinstance(f, MLPField):
        pairs = [(layer.weight.detach().cpu().numpy(), layer.bias.detach().cpu().numpy()) for layer in f.linears()]
        weights = [(jnp.asarray(weight), jnp.asarray(bias)) for weight, bias in pairs]

        def mlp(t: Any, y: Any, w: Any) -> Any:
            for weight, bias in w[:-1]:
                y = jnp.tanh(y @ weight.T + bias)
            return y @ w[-1][0].T + w[-1][1]

        return weights, mlp
    if isinstance(f, VanDerPol):
        mu = f.mu
        return None, lambda t, y, w: jnp.stack([y[..., 1], mu * (1 - y[..., 0] ** 2) * y[..., 1] - y[..., 0]], -1)
    if isinstance(f, LotkaVolterra):
        return None, lambda t, y, w: jnp.stack([y[..., 0] * (1.5 - y[..., 1]), y[..., 1] * (y[..., 0] - 3.0)], -1)
    raise TypeError(f"no jax form of {type(f).__name__}")


def diffrax_function(problem: Problem) -> tuple[Any, Any, Callable[..., Any]]:
    """(weights, y0, solve(y0, weights) -> ys [T, B, D]), to be jitted."""
    import diffrax
    import jax
    import jax.numpy as jnp

    weights, field = jax_field(problem.f)
    ts, term = jnp.asarray(problem.ts, dtype=jnp.float32), diffrax.ODETerm(field)

    def one(y0: Any, w: Any) -> Any:
        return diffrax.diffeqsolve(
            term,
            diffrax.Dopri5(),
            t0=problem.ts[0],
            t1=problem.ts[-1],
            dt0=None,
            y0=y0,
            args=w,
            saveat=diffrax.SaveAt(ts=ts),
            stepsize_controller=diffrax.PIDController(rtol=problem.tol, atol=problem.tol),
            max_steps=4096,
        ).ys

    function = jax.vmap(one, in_axes=(0, None), out_axes=1) if problem.per_sample else one
    return weights, jnp.asarray(problem.y0.cpu().numpy()), function


def diffrax_solve(problem: Problem) -> Callable[[], Any]:
    import jax

    weights, y0, function = diffrax_function(problem)
    jitted = jax.jit(function)
    return lambda: jitted(y0, weights).block_until_ready()


def diffrax_gradient(problem: Problem) -> Callable[[], Any]:
    import jax

    weights, y0, function = diffrax_function(problem)
    jitted = jax.jit(jax.grad(lambda y, w: (function(y, w)[1:] ** 2).sum(), argnums=(0, 1)))

    def gradient() -> list[Any]:
        by_y0, by_weights = jax.block_until_ready(jitted(y0, weights))
        return [by_y0, *(g for pair in by_weights for g in pair)]

    return gradient
