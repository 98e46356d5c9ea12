"""Figures across the runs of a grid: the cost of a solve against its accuracy and the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from noderun.report.curves import draw_nfe_panel, nfe_rows
from noderun.report.folders import Run, labels, told_apart_by
from noderun.report.style import figure, line_style, log_scale, outside_legend, save, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
WEIGHT, DECAY = "regularizer.weight", "optimizer.weight_decay"
PRECISION = ("tolerance", "solver.rtol", "solver.atol", "solver.dt", "gradient.rtol", "gradient.atol")
ENDS = ("time/forward_ms", "solve/numerical_error", "solve/gradient_error")


def solved(found: Sequence[Run]) -> list[dict[str, Any]]:
    """One row for each finished run that solves an ODE; what is measured once in a run comes from its last row."""
    rows = []
    studies = labels(found, ("seed", *PRECISION))  # a line joins runs that differ in nothing else
    for label, line, run in zip(labels(found), studies, found, strict=True):
        if run.result.get("nfe_forward") is not None:
            last = {tag: next((r[tag] for r in reversed(run.metrics) if r.get(tag) is not None), None) for tag in ENDS}
            rows.append(run.row() | last | {"label": label, "line": line})
    return rows


def vary(rows: Sequence[Row], *keys: str) -> bool:
    return all(len({row[key] for row in rows if row.get(key) is not None}) > 1 for key in keys)


def tolerance_rows(found: Sequence[Run]) -> list[dict[str, Any]]:
    rows = solved(found)
    if not (vary(rows, "rtol") or vary(rows, "solver.dt")):
        return []
    by_epoch = {row["run"]: [] for row in rows}  # type: dict[str, list[tuple[int, float]]]
    for row in nfe_rows(found):
        if row["run"] in by_epoch:
            by_epoch[row["run"]].append((row["epoch"], row["nfe/forward"]))
    return [row | {"nfe_by_epoch": " ".join(f"{e}:{n:g}" for e, n in by_epoch[row["run"]])} for row in rows]


def draw_figure3(rows: Sequence[Row], path: Path) -> None:
    """Chen et al. 2018, figure 3: error, time and backward NFE against forward NFE, and NFE by epoch."""
    with figure(2, 2) as (drawn, axes):
        (a, b), (c, d) = axes
        scatter(a, rows, "nfe_forward", "numerical_error", "line")
        scatter(b, rows, "nfe_forward", "time/forward_ms", "line")
        scatter(c, rows, "nfe_forward", "nfe_backward", "line")
        draw_equal(c)
        draw_nfe_panel(d, unfolded(rows), backward=False)
        a.set(title="a", xlabel="NFE forward", ylabel="numerical error (relative)")
        b.set(title="b", xlabel="NFE forward", ylabel="time of a forward solve (ms per batch)")
        c.set(title="c", xlabel="NFE forward", ylabel="NFE backward")
        d.set(title="d", xlabel="epoch", ylabel="NFE forward")
        log_scale(a, "y")
        outside_legend(b)
        outside_legend(d)
        save(drawn, path, rows)


def unfolded(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The epochs that ``tolerance_rows`` packed into one cell of the CSV."""
    pairs = [(row, pair.split(":")) for row in rows for pair in row["nfe_by_epoch"].split()]
    return [{"label": row["label"], "epoch": int(epoch), "nfe/forward": float(nfe)} for row, (epoch, nfe) in pairs]


def draw_equal(axes: Axes) -> None:
    """Where backward costs what forward does; the paper's half was a counter's error (its author in 2026)."""
    if not axes.lines:
        return
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], color="grey", linewidth=0.8, label="backward = forward")


def memory_rows(found: Sequence[Run]) -> list[dict[str, Any]]:
    rows = [row for row in solved(found) if row.get("memory_saved_mib") is not None]
    return rows if vary(rows, "gradient") or vary(rows, "nfe_forward") else []


def draw_memory(rows: Sequence[Row], path: Path) -> None:
    draw_scatter(rows, path, "nfe_forward", "memory_saved_mib", "line", "NFE forward", "saved for backward (MiB)")


def loss_rows(found: Sequence[Run]) -> list[dict[str, Any]]:
    rows = [row for row in solved(found) if row.get("test_loss") is not None]
    return rows if vary(rows, "nfe_forward", "test_loss") else []


def draw_loss(rows: Sequence[Row], path: Path) -> None:
    draw_scatter(rows, path, "nfe_forward", "test_loss", "label", "NFE forward", "test loss")


def weight_rows(found: Sequence[Run], key: str) -> list[dict[str, Any]]:
    """The weight of a run whose option's default holds is not in its identity, but in its words if it was swept."""
    if key not in told_apart_by(found):
        return []
    rows = [row for row in solved(found) if row.get(key) is not None]
    return [row | {"line": without_weight(row, key)} for row in rows]


def without_weight(row: Row, key: str) -> str:
    """What else tells the run apart, so that one line is one study of the weight."""
    words = [part for part in row["label"].split(", ") if not part.startswith(key)]
    return ", ".join(words) or str(row.get("regularizer") or row["model"])


def draw_weight(rows: Sequence[Row], path: Path, key: str, name: str) -> None:
    """NFE and the outcome of the test against a weight in the loss."""
    outcomes = {"test_error": "test error (%)", "nll": "NLL (nats)", "test_loss": "test loss"}
    last = next(k for k in outcomes if any(row.get(k) is not None for row in rows) or k == "test_loss")
    with figure(1, 2) as (drawn, axes):
        for panel, y, label in ((axes[0, 0], "nfe_forward", "NFE forward"), (axes[0, 1], last, outcomes[last])):
            scatter(panel, rows, key, y, "line", along=(key,))
            panel.set(xlabel=name, ylabel=label)
            panel.set_xscale("symlog", linthresh=smallest(rows, key))
            panel.xaxis.get_major_locator().set_params(numticks=6)
        outside_legend(axes[0, 1])
        save(drawn, path, rows)


def smallest(rows: Sequence[Row], key: str) -> float:
    """Where the axis turns linear, so that a weight of 0 has its place."""
    return min((float(r[key]) for r in rows if r[key] > 0), default=1.0)


def draw_scatter(rows: Sequence[Row], path: Path, x: str, y: str, by: str, x_name: str, y_name: str) -> None:
    with figure() as (drawn, axes):
        scatter(axes[0, 0], rows, x, y, by)
        axes[0, 0].set(xlabel=x_name, ylabel=y_name)
        outside_legend(axes[0, 0])
        save(drawn, path, rows)


def scatter(
    axes: Axes, rows: Sequence[Row], x: str, y: str, by: str, along: Sequence[str] = ("rtol", "solver.dt")
) -> None:
    """One mark per run. A line joins the rows of one ``by`` and one ``net``, at their means over seeds.

    Rows that agree in the keys ``along`` the line differ in the seed alone. Nothing is joined if there are no keys.
    """
    scale = 100 if y.endswith("_error") and y.startswith("test") else 1
    for i, name in enumerate(dict.fromkeys(row.get(by) for row in rows)):
        own = [row for row in rows if row.get(by) == name and finite(row.get(x)) and finite(row.get(y))]
        if not own:
            continue
        points = [(row[x], scale * row[y]) for row in own]
        axes.plot(*zip(*points, strict=True), **(line_style(i) | {"linestyle": "", "label": str(name)}))
        for net in dict.fromkeys(row.get("net") for row in own) if along else ():
            line = means([row for row in own if row.get("net") == net], (x, y), along)
            axes.plot([a for a, _ in line], [scale * b for _, b in line], **(line_style(i) | {"marker": ""}))
    for name, key in (("x", x), ("y", y)):
        if key.startswith("nfe"):
            whole_numbers(axes, name)
    if not axes.lines:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="grey")
        axes.set(xticks=[], yticks=[])


def means(rows: Sequence[Row], names: tuple[str, str], along: Sequence[str]) -> list[tuple[float, ...]]:
    """The means of two columns over the rows that agree in the keys ``along``, in the order of the first."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in along), []).append(row)
    return sorted(tuple(fmean(row[name] for row in group) for name in names) for group in groups.values())


def finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
