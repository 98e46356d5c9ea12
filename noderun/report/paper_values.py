"""What papers say: how memory grows, and the numbers that experiments reproduce; none of it was measured by us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from noderun.record.metric import METRICS
from noderun.report.cells import Cell
from noderun.report.table import Result, best, heading, over_seeds, show, troubles, varying

# Chen et al. 2018, table 1: memory in the number of layers L of a residual net, or of a solver's steps L~
GRADIENT_MEMORY = {
    "adjoint": "O(1)",
    "backprop": "O(L̃)",
    "checkpointed": "O(L̃) states",
    "symplectic": "O(L̃) states",
    "interpolated": "O(L̃) states",
    "reversible": "O(1)",
    "forward": "O(1)",
}
MODEL_MEMORY = {"resnet": "O(L)", "plain": "O(L)", "revnet": "O(1)", "hamiltonian": "O(1)", "rknet": "O(L̃)"}
TIME = {"resnet": "O(L)", "plain": "O(L)", "revnet": "O(L)", "hamiltonian": "O(L)"}
COSTS = ("memory_saved_mib", "memory_peak_mib", "training_seconds", "seconds", "nfe_forward", "nfe_backward")


@dataclass(frozen=True)
class PaperRow:
    """A line of a paper's table; ``None`` where it states nothing."""

    test_error: float
    parameters: str
    memory: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class Paper:
    source: str
    conditions: str
    lines: Mapping[str, PaperRow]


CHEN2018 = Paper(
    "Chen et al. 2018, table 1",
    "MNIST, one run each, no spread stated",
    {
        "mlp": PaperRow(0.0160, "0.24 M"),
        "resnet": PaperRow(0.0041, "0.60 M", "O(L)", "O(L)"),
        "rknet": PaperRow(0.0047, "0.22 M", "O(L̃)", "O(L̃)"),
        "odenet": PaperRow(0.0042, "0.22 M", "O(1)", "O(L̃)"),
    },
)
PAPERS = {"chen2018/table1": CHEN2018, "chen2018/mnist": CHEN2018}  # experiment -> what it reproduces


def memory_claim(result: Result) -> str | None:
    model, gradient = str(result.get("model")), result.get("gradient")
    return MODEL_MEMORY.get(model) or (GRADIENT_MEMORY.get(str(gradient)) if gradient else None)


def time_claim(result: Result) -> str | None:
    return TIME.get(str(result.get("model"))) or ("O(L̃)" if result.get("solver") else None)


def chen_table(
    results: Sequence[Result], swept: Sequence[str], experiment: str | None
) -> tuple[list[str], list[list[Cell]]]:
    """Headings and cells of the table of Chen et al.: each measured cost beside what is claimed of it.

    In an experiment that reproduces a paper its values stand beside the measured ones, and what it has and was not
    run is a line without numbers.
    """
    paper = PAPERS.get(experiment or "")
    results = over_seeds(results, swept)
    if paper:
        ran = {result.get("model") for result in results}
        absent = [{"model": model, "status": "not run"} for model in paper.lines if model not in ran]
        results = [*results, *absent]
    extra = [key for key in swept if key not in ("model", "seed")]
    keys = [*varying(results, list(dict.fromkeys((*extra, "seeds", "gradient")))), *troubles(results)[1:]]
    found = outcomes(results)
    names = ["model", *(heading(key) for key in keys), "status"]
    names += [name for key in found for name in (heading(key), heading(f"{key}_se"))]
    names += ["paper's test error", "parameters", "paper's parameters"] if paper else ["parameters"]
    names += ["saved (MiB)", "claimed memory", "peak (MiB)", "training (s)"]
    names += ["time (s)", "claimed time", "NFE forward", "NFE backward", "NFE test"]
    winners = {key: best(results, key) for key in (*found, *COSTS, "nfe_test")}
    return drop_empty(names, [line(result, i, keys, found, winners, paper) for i, result in enumerate(results)])


def outcomes(results: Sequence[Result]) -> list[str]:
    """What the test found of how good the models are; the loss only if there is no other number."""
    found = [
        key
        for key, metric in METRICS.items()
        if metric.headline and metric.tag.endswith("/test") and any(result.get(key) is not None for result in results)
    ]
    return [key for key in found if key != "test_loss"] or found


def line(
    result: Result, i: int, keys: Sequence[str], found: Sequence[str], winners: Mapping[str, Any], paper: Paper | None
) -> list[Cell]:
    stated = paper.lines.get(str(result.get("model"))) if paper else None
    done = result.get("status") == "done"

    def measured(key: str) -> Cell:
        return (show(key, result.get(key)) if done else str(result.get("status")), winners.get(key) == i)

    def plain(value: Any) -> Cell:
        return ("-" if value is None else str(value), False)

    cells = [plain(result.get("model")), *((show(key, result.get(key)), False) for key in keys)]
    cells += [plain(result.get("status"))]
    for key in found:
        error = result.get(f"{key}_se")
        cells += [measured(key), plain(None if error is None else f"{error:.2g}")]
    cells += [plain(stated and show("test_error", stated.test_error))] if paper else []
    cells += [measured("parameters"), *([plain(stated and stated.parameters)] if paper else [])]
    cells += [measured("memory_saved_mib"), plain(memory_claim(result) or (stated and stated.memory))]
    cells += [measured("memory_peak_mib"), measured("training_seconds"), measured("seconds")]
    cells += [plain(time_claim(result) or (stated and stated.time))]
    return [*cells, measured("nfe_forward"), measured("nfe_backward"), measured("nfe_test")]


def drop_empty(names: list[str], rows: list[list[Cell]]) -> tuple[list[str], list[list[Cell]]]:
    """Leaves out the columns that say nothing: nowhere a value, or everywhere the state of a run that is done."""
    silent = [{row[j][0] for row in rows} <= ({"-"} if name != "status" else {"done"}) for j, name in enumerate(names)]
    kept = [j for j, empty in enumerate(silent) if not empty]
    return [names[j] for j in kept], [[row[j] for j in kept] for row in rows]
