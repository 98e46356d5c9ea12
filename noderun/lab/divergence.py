"""lab=divergence: the cost of the trace and of the determinant of a net's Jacobian against the dimension."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from noderun.lab.context import LabContext, LabResult, Rows
from noderun.report import style

SECONDS = 0.02  # that a timing lasts at least
NAMES = {
    "f": "f",
    "hutchinson": "Hutchinson's estimate of tr J, one draw",
    "exact": "tr J exactly",
    "log_det": "log |det(I + J)|",
}


def run(context: LabContext) -> LabResult:
    options = context.settings.lab
    torch.set_num_threads(1)
    rows = [measured(dim, options, context.settings) for dim in options.dimensions]
    draw(context, rows)
    return LabResult(rows, growth(rows))


def measured(dim: int, options: Any, settings: Any) -> dict[str, Any]:
    """Milliseconds of each quantity for one batch; the quantities take turns, so that drift affects all alike."""
    generator = torch.Generator().manual_seed(settings.seed)
    f = nn.Sequential(nn.Linear(dim, options.hidden), nn.Tanh(), nn.Linear(options.hidden, dim)).to(settings.device)
    x, noise = (torch.randn(options.batch, dim, generator=generator).to(settings.device) for _ in range(2))
    contenders: dict[str, Callable[[], Tensor]] = {
        "f": lambda: f(x),
        "hutchinson": lambda: hutchinson(f, x, noise),
        "exact": lambda: exact(f, x),
        "log_det": lambda: log_det(f, x),
    }
    with torch.no_grad():
        samples = [{name: milliseconds(run) for name, run in contenders.items()} for _ in range(options.rounds)]
    return {"D": dim} | {f"{name} (ms)": statistics.median(sample[name] for sample in samples) for name in NAMES}


def milliseconds(run: Callable[[], Tensor]) -> float:
    """The mean time of as many calls as fill ``SECONDS``, after one that is not counted."""
    run()
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        run().sum().item()  # waits for a GPU
        calls += 1
    return 1e3 * (time.perf_counter() - start) / calls


def hutchinson(f: Callable[[Tensor], Tensor], x: Tensor, noise: Tensor) -> Tensor:
    """noise' J noise [B]: one product of a vector and the Jacobian (Grathwohl et al. 2019, equation 8)."""
    pull_back = torch.func.vjp(f, x)[1]
    return (pull_back(noise)[0] * noise).sum(1)


def exact(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """tr J [B]: D products, O(D^2) for a net."""
    return jacobian(f, x).diagonal(dim1=1, dim2=2).sum(1)


def log_det(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log |det(I + J)| [B] of the layer x + f(x): the Jacobian, and O(D^3) for its determinant."""
    return torch.linalg.slogdet(jacobian(f, x) + torch.eye(x.shape[1], device=x.device)).logabsdet


def jacobian(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """[B, D, D] of a function of the rows of x [B, D]."""
    return torch.func.vmap(torch.func.jacrev(f))(x)


def growth(rows: Rows) -> dict[str, float]:
    """The exponent p of the cost D^p of each quantity between the two largest dimensions."""
    if len(rows) < 2:
        return {}
    low, high = sorted(rows, key=lambda row: row["D"])[-2:]
    ratio = math.log(high["D"] / low["D"])
    return {f"exponent_{name}": math.log(high[f"{name} (ms)"] / low[f"{name} (ms)"]) / ratio for name in NAMES}


def draw(context: LabContext, rows: Rows) -> None:
    with style.figure() as (drawn, axes):
        panel = axes[0, 0]
        for i, (name, label) in enumerate(NAMES.items()):
            panel.plot([r["D"] for r in rows], [r[f"{name} (ms)"] for r in rows], label=label, **style.line_style(i))
        options = context.settings.lab
        title = f"net D-{options.hidden}-D, {options.batch} points, one thread"
        panel.set(xlabel="dimension D", ylabel="time (ms per batch)", title=title)
        style.log_scale(panel, "y")
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.legend()
        style.save(drawn, context.figures / "divergence.png", rows)
