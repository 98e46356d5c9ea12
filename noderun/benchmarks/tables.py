"""The results as Markdown: targets beside measurements, then one section per suite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from noderun.benchmarks.case import LIMIT, Failure, Row
from noderun.benchmarks.memory import MemoryRow
from noderun.benchmarks.targets import TARGETS, Target

TITLES = {
    "solve": "Solves without gradients",
    "gradient": "Gradients of a small f",
    "training": "Training",
    "startup": "Starting",
    "epoch": "A whole epoch",
    "gpu": "One card",
    "flows": "Flows",
    "series": "Time series",
    "stochastic": "Stochastic equations",
}
NOTES = {
    "solve": "Times over the limit: as many evaluations of f as noderun's solve makes, and nothing else; where each "
    "orbit has steps of its own, as the one makes that needs most.",
    "gradient": "Times over the limit: as many evaluations of f, each with its vjp, as noderun's forward solve makes, "
    "which is what backprop cannot do without.",
    "training": "The limit is noderun's evaluations of f, those of NFE's second number with their vjp, and nothing "
    "else. All have the same f, but in the training step: there noderun has its own, which gives the same numbers "
    "without concatenating t.",
    "startup": "Whole processes, a new interpreter each time.",
    "epoch": "Each a single time.",
    "gpu": "The limit is as many evaluations of f as noderun's solve makes, in a backward pass each with its vjp. On a "
    "GPU noderun replays CUDA graphs; compiled compiles f for them, and eager does without.",
    "flows": "Forward and backward pass of a training step. All have the same net and weights but zuko, whose net of "
    "as many units is its own; noderun takes the trace in closed form, diffrax in forward mode, torchdiffeq's example "
    "by one vector-Jacobian product per dimension. Compilation is not counted.",
    "series": "Forward and backward pass; each gradient is compared with that of a tight float64 solve. The first "
    "contender of a controlled equation is Heun's method written by hand, one step an interval. All have one net and "
    "weights. torchdiffeq's event is one for a whole batch, so there every sample is a solve. Compilation is not "
    "counted.",
    "stochastic": "A neural SDE with diagonal noise, fixed steps; every library draws its own path. Steps are powers "
    "of two, because torchsde's path falls into tens of thousands of pieces if float32 rounds the sum of the steps.",
}
MEMORY = (
    "held / peak in MiB, counted once a storage: held from the end of the forward to the start of the backward pass "
    "(parameters, y0 and the returned ys left out), peak the most at once in both passes (parameters and y0 left out)."
)


def page(
    times: Sequence[Row],
    memory: Sequence[MemoryRow],
    failures: Sequence[Failure],
    machine: Mapping[str, Any],
    command: str,
) -> str:
    sections = [where(machine, command)]
    suites = list(dict.fromkeys(row.suite for row in times))
    targets = [target for target in TARGETS if target.suite in suites]
    if targets:
        sections += ["### Targets", table(["what", "wanted", "measured", "met"], [verdict(t, times) for t in targets])]
    for suite in suites:
        rows = [row for row in times if row.suite == suite]
        against_limit = suite in ("solve", "gradient")
        sections += [f"### {TITLES[suite]}", NOTES[suite], ratios(rows) if against_limit else milliseconds(rows)]
    if memory:
        sections += ["### Memory", f"{memory[0].case}; {MEMORY}", mebibytes(memory)]
    if failures:
        lines = [[failure.suite, failure.case, failure.contender, failure.failure] for failure in failures]
        sections += ["### Failed", table(["suite", "case", "contender", "why"], lines)]
    return "\n\n".join(sections) + "\n"


def where(machine: Mapping[str, Any], command: str) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    absent = f" Absent: {', '.join(machine['absent'])}." if machine["absent"] else ""
    device = machine["processor"] + (", no GPU" if machine["device"] == "cpu" else "")
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    return f"`{command}` on {device}, {threads}; Python {machine['python']}, {versions}.{absent}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verdict(target: Target, rows: Sequence[Row]) -> list[str]:
    values = sorted(target.values(rows))
    if not values:
        return [target.what, target.wanted, "not run", "-"]
    low, high = f"{values[0]:.3g}", f"{values[-1]:.3g}"
    met = sum(map(target.met, values))
    verdicts = {0: "no", len(values): "yes"}
    measured = low if low == high else f"{low} to {high}"
    return [target.what, target.wanted, measured, verdicts.get(met, f"{met} of {len(values)}")]


def ratios(rows: Sequence[Row]) -> str:
    """One line per case: the limit in milliseconds, the others over it, and the widest spread."""
    names = list(dict.fromkeys(row.contender for row in rows if row.contender != LIMIT))
    lines = []
    for case in dict.fromkeys(row.case for row in rows):
        of = {row.contender: row for row in rows if row.case == case}
        cells = [f"{of[name].times_first:.2f}" if name in of else "-" for name in names]
        spread = max((row.high - row.low) / row.milliseconds for row in of.values())
        lines.append([case, f"{of[LIMIT].milliseconds:.2f}", *cells, f"{spread:.0%}"])
    return table(["case", f"{LIMIT} (ms)", *names, "widest spread"], lines)


def milliseconds(rows: Sequence[Row]) -> str:
    """One line per contender: its median and spread, and its time over that of the case's first."""
    lines, case = [], None
    for row in rows:
        spread = f" ({readable(row.low)} to {readable(row.high)})" if row.high > row.low else ""
        time = readable(row.milliseconds) + spread
        lines.append([row.case if row.case != case else "", row.contender, time, f"{row.times_first:.2f}"])
        case = row.case
    return table(["case", "contender", "ms (lowest to highest)", "over the first"], lines)


def readable(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"


def mebibytes(rows: Sequence[MemoryRow]) -> str:
    """One line per contender and one column per NFE of the first contender; another may need one more to start."""
    by_name: dict[str, list[MemoryRow]] = {}
    for row in rows:
        by_name.setdefault(row.contender, []).append(row)
    lines = [[name, *(f"{row.held_mib:.2f} / {row.peak_mib:.2f}" for row in mine)] for name, mine in by_name.items()]
    return table(["gradient", *(f"NFE {row.nfe}" for row in next(iter(by_name.values())))], lines)
