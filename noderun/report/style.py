"""The style of every figure, and the function that writes one: a PNG beside the CSV of its rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noderun.record import files
from noderun.report.table import Result, write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colors, distinct for color-blind readers (jfly.uni-koeln.de/color); yellow is lost on white
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C564B", "#7F7F7F", "#BCBD22")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", ":", "-.")
ENTRIES = 20  # of a legend beside a panel
FORMAT: ContextVar[str] = ContextVar("figure_format", default="png")  # beside the PNG, which pages show
WIDTH, HEIGHT = 6.4, 3.8  # inches of a panel that has a column to itself
PAGE = 11.2  # inches, which no figure exceeds, so that letters have one size on a page
DPI = 150
STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": DPI,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "pdf.fonttype": 42,  # letters stay letters, which an editor can change
    "svg.fonttype": "none",
}


@contextmanager
def also_as(form: str) -> Iterator[None]:
    """Inside, every figure is written as ``form`` (png, pdf or svg) too, beside its PNG."""
    token = FORMAT.set(form)
    try:
        yield
    finally:
        FORMAT.reset(token)


@contextmanager
def figure(
    rows: int = 1, columns: int = 1, width: float = WIDTH, height: float = HEIGHT, **shared: Any
) -> Iterator[tuple[Figure, Any]]:
    """A figure of rows x columns panels, each ``width`` x ``height`` inches, and its axes [rows, columns].

    Panels share PAGE inches if ``width`` would make the figure wider. A figure that is a chart has the usual size.
    ``sharex`` and ``sharey`` are those of matplotlib's subplots: panels on common axes can be compared.
    It never touches pyplot's global state, so it works without a display and in threads.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(min(width * columns, PAGE), height * rows))
        FigureCanvasAgg(drawn)
        yield drawn, drawn.subplots(rows, columns, squeeze=False, **shared)


def line_style(i: int) -> dict[str, Any]:
    """Color, marker and dashes of the i-th line of a panel: no two alike among the first 40."""
    return {
        "color": COLORS[i % len(COLORS)],
        "marker": MARKERS[i % len(MARKERS)],
        "linestyle": LINES[(i // len(COLORS)) % len(LINES)],
    }


def draw_lines(
    axes: Axes, rows: Sequence[Result], x: str, y: str, by: str, keep: Callable[[float], bool] = math.isfinite
) -> None:
    """One labeled line for each value of ``by``, of the rows that have finite x and y."""
    for i, label in enumerate(dict.fromkeys(row[by] for row in rows)):
        points = [(row[x], row[y]) for row in rows if row[by] == label and row[x] is not None and row[y] is not None]
        kept = [(a, b) for a, b in points if keep(a) and keep(b)]
        if kept:
            axes.plot(*zip(*kept, strict=True), label=str(label), **line_style(i))


def log_scale(axes: Axes, which: str) -> None:
    """Logarithmic x, y or both, once the lines are drawn; 1, 2 and 5 are labeled if there are few powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for name in which:
        axes.set(**{f"{name}scale": "log"})
        low, high = axes.get_xlim() if name == "x" else axes.get_ylim()
        axis = axes.xaxis if name == "x" else axes.yaxis
        axis.set_minor_formatter(NullFormatter())
        if high / low < 150:
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def whole_numbers(axes: Axes, which: str) -> None:
    """Ticks of x, y or both at whole numbers alone: epochs, evaluations."""
    from matplotlib.ticker import MaxNLocator

    for name in which:
        getattr(axes, f"{name}axis").set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def outside_legend(axes: Axes, **options: Any) -> None:
    """The legend to the right of a panel, where many lines would leave no room inside.

    Of very many lines, for which there is no room there either, those in the middle are counted instead of named.
    """
    from matplotlib.lines import Line2D

    handles, names = axes.get_legend_handles_labels()
    if len(names) > ENTRIES:
        unnamed = slice(ENTRIES - 3, -2)  # the last two may say what dashes mean
        names[unnamed] = [f"... {len(names[unnamed])} more"]
        handles[unnamed] = [Line2D([], [], linestyle="none")]
    if names:
        axes.legend(handles, names, loc="upper left", bbox_to_anchor=(1.0, 1.0), **options)


def save(drawn: Figure, path: Path, rows: Sequence[Result]) -> None:
    """``path`` (.png) and, beside it, the rows that were drawn as .csv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for form in dict.fromkeys(("png", FORMAT.get())):
        with files.replacing(path.with_suffix(f".{form}")) as new:
            drawn.savefig(new, format=form)
    write_csv(rows, path.with_suffix(".csv"))
