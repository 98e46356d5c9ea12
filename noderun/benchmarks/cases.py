"""The cases of the suites solve and gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from noderun.benchmarks import libraries, problems
from noderun.benchmarks.case import LIMIT, Case, Contenders, as_arrays, errors_of
from noderun.benchmarks.problems import Problem
from noderun.ode.gradients import GRADIENTS, refusal
from noderun.ode.solvers.captured.capture import Capture


def solve_cases(device: str, quick: bool) -> Iterator[Case]:
    batches, tolerances = ((1,), (1e-3,)) if quick else ((1, 128, 1024, 16384), (1e-3, 1e-6))
    for batch in batches:
        for tol in tolerances:
            yield solve_case(problems.mlp(batch, tol, device=device))
    if not quick:
        yield solve_case(problems.van_der_pol(256, 2.0, 1e-5, 200, device))
        yield solve_case(problems.lotka_volterra(10_000, 1e-5, device))


def solve_case(problem: Problem) -> Case:
    contenders = libraries.solvers(problem)
    with torch.no_grad():
        nfe = solve_statistics(problem)
    t = torch.zeros((), device=problem.y0.device)

    def bare() -> None:
        with torch.no_grad():
            for _ in range(nfe):
                problem.f(t, problem.y0)

    errors = errors_of(contenders, lambda: as_arrays(libraries.noderun_solve(problems.tight(problem))))
    bounds: Contenders = {LIMIT: bare}
    if problem.y0.is_cuda:
        bounds |= {
            f"{LIMIT}, one graph{words}": in_one_graph(f, nfe, problem) for words, f in on_gpu(problem.f).items()
        }
    return Case("solve", problem.name, {**bounds, **contenders}, errors, 100 * problem.tol)


def on_gpu(f: nn.Module) -> dict[str, Callable[..., Tensor]]:
    """f as graphs can hold it, by what is said of it."""
    return {"": f, ", f compiled": torch.compile(f, dynamic=False)}


def in_one_graph(f: Callable[..., Tensor], nfe: int, problem: Problem) -> Callable[[], None]:
    """So many evaluations in one CUDA graph, captured at the first call: the least that a solve of f can take."""
    t = torch.zeros((), device=problem.y0.device)

    def bare() -> None:
        with torch.no_grad():
            for _ in range(nfe):
                f(t, problem.y0)

    capture = Capture(bare, lambda: None, problem.y0.device, None)

    def replay() -> None:
        capture.prepare()
        capture()

    return replay


def solve_statistics(problem: Problem) -> int:
    nfe = libraries.noderun_solution(problem).stats.nfe_forward
    return int(nfe if isinstance(nfe, int) else nfe.max())


def gradient_cases(device: str, quick: bool) -> Iterator[Case]:
    methods = ("backprop", "checkpointed", "adjoint") if quick else every_gradient()
    batches, tolerances = ((4,), (1e-3,)) if quick else ((1, 128, 1024), (1e-3, 1e-6))
    for batch in batches:
        for tol in tolerances:
            yield gradient_case(problems.mlp(batch, tol, device=device), methods)
    if quick:
        return
    for outputs in (10, 100):
        yield gradient_case(problems.mlp(128, 1e-3, outputs, device), methods)
    yield gradient_case(problems.mlp(128, 1e-3, device=device, width=222), methods)  # 50,400 parameters


def every_gradient() -> tuple[str, ...]:
    """All that dopri5 can have, but forward, whose cost grows with the number of parameters."""
    works = [name for name in GRADIENTS if not refusal("dopri5", name)]
    return tuple(name for name in works if name != "forward")


def gradient_case(problem: Problem, methods: tuple[str, ...]) -> Case:
    contenders = libraries.gradients(problem, methods)
    nfe = solve_statistics(problem)
    y0, params, t = (
        problem.y0.clone().requires_grad_(),
        list(problem.f.parameters()),
        torch.zeros((), device=problem.y0.device),
    )
    ones = torch.ones_like(y0)

    def bare() -> None:  # f and its vjp for each evaluation of the forward solve: what backprop cannot do without
        for _ in range(nfe):
            torch.autograd.grad(problem.f(t, y0), [y0, *params], ones)

    exact = libraries.torch_gradient(problems.tight(problem), libraries.noderun_with("checkpointed"))
    errors = errors_of(contenders, lambda: as_arrays(exact()))
    return Case("gradient", problem.name, {LIMIT: bare, **contenders}, errors, 300 * problem.tol)
