"""Figures of flows in a plane, drawn from rows without the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noderun.report.style import COLORS, figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
SHADES = "cividis"  # distinct for color-blind readers and in gray
PANELS = 7  # of a filmstrip
PER_SECOND = 5  # frames of the animation


def draw_density(rows: Sequence[Row], path: Path) -> None:
    """Data, learned density and samples in one window."""
    with figure(1, 3, width=3.3, height=3.3) as (drawn, axes):
        data, density, samples = axes[0]
        for panel, kind in ((data, "data"), (samples, "samples")):
            cloud(panel, [row for row in rows if row["kind"] == kind], markersize=2, alpha=0.5)
            panel.set(title=kind)
        density_map(density, [row for row in rows if row["kind"] == "density"])
        density.set(title="density of the model")
        for panel in (data, samples):
            panel.set(xlim=density.get_xlim(), ylim=density.get_ylim())
        save(drawn, path, even(rows))


def cloud(axes: Axes, rows: Sequence[Row], **style: Any) -> None:
    xs, ys = ([row[name] for row in rows] for name in ("x", "y"))
    usual: Any = {"linestyle": "", "marker": ".", "color": COLORS[0], "markeredgewidth": 0}
    axes.plot(xs, ys, **usual | style)
    axes.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")


def density_map(axes: Axes, rows: Sequence[Row], most: float | None = None) -> None:
    """The density on its grid, whose x varies slowest, as shades from 0 to ``most``."""
    xs, ys = (sorted({row[name] for row in rows}) for name in ("x", "y"))
    values = [[row["density"] for row in rows[i :: len(ys)]] for i in range(len(ys))]
    axes.pcolormesh(xs, ys, values, cmap=SHADES, vmin=0, vmax=most, shading="nearest", rasterized=True)
    axes.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$", xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]))
    axes.grid(False)


def draw_velocity(rows: Sequence[Row], path: Path) -> None:
    """The field at several times of each block; its arrows have one scale."""
    moments = moments_of(rows)
    longest = max((row["u"] ** 2 + row["v"] ** 2) ** 0.5 for row in rows)
    across = sorted({row["x"] for row in rows})
    scale = longest / (1.5 * (across[1] - across[0]))  # the longest arrow is 1.5 places long
    columns = sum(moment[0] == 1 for moment in moments)
    with figure(len(moments) // columns, columns, width=3.0, height=3.0) as (drawn, axes):
        for panel, moment in zip(axes.flat, moments, strict=True):
            own = [row for row in rows if (row["block"], row["t"]) == moment]
            values = [[row[name] for row in own] for name in ("x", "y", "u", "v")]
            panel.quiver(*values, color=COLORS[0], angles="xy", scale_units="xy", scale=scale, width=0.005)
            panel.set(title=title(moments, moment), aspect="equal", xlabel="$y_1$", ylabel="$y_2$")
        save(drawn, path, rows)


def moments_of(rows: Sequence[Row]) -> list[tuple[int, float]]:
    """(block, t), in the order of the rows."""
    return list(dict.fromkeys((row["block"], row["t"]) for row in rows))


def title(moments: Sequence[tuple[int, float]], moment: tuple[int, float]) -> str:
    several = len({block for block, _ in moments}) > 1
    return (f"block {moment[0]}, " if several else "") + f"t = {moment[1]:.2g}"


def draw_transport(rows: Sequence[Row], path: Path) -> None:
    """Particles over their density from the normal to the data: a filmstrip, and an animation beside it (.gif)."""
    moments = moments_of(rows)
    shown = [moments[round(i * (len(moments) - 1) / (PANELS - 1))] for i in range(PANELS)]
    with figure(1, PANELS, width=2.2, height=2.4) as (drawn, axes):
        for panel, moment in zip(axes[0], shown, strict=True):
            transport_panel(panel, rows, moments, moment)
            panel.tick_params(labelbottom=False, labelleft=False)
            panel.set(xlabel="", ylabel="")
        save(drawn, path, even(rows))
    animate(rows, path.with_suffix(".gif"))


def transport_panel(
    axes: Axes, rows: Sequence[Row], moments: Sequence[tuple[int, float]], moment: tuple[int, float]
) -> None:
    own = [row for row in rows if (row["block"], row["t"]) == moment]
    particles, density = ([row for row in own if row["kind"] == kind] for kind in ("particle", "density"))
    if density:
        density_map(axes, density)
        window = axes.get_xlim(), axes.get_ylim()
    else:
        window = span(rows, "x"), span(rows, "y")
    cloud(axes, particles, color="white" if density else COLORS[0], markersize=2, alpha=0.8)
    axes.set(title=title(moments, moment), xlim=window[0], ylim=window[1])


def span(rows: Sequence[Row], name: str) -> tuple[float, float]:
    return min(row[name] for row in rows), max(row[name] for row in rows)


def animate(rows: Sequence[Row], path: Path) -> None:
    from matplotlib.animation import FuncAnimation, PillowWriter

    moments = moments_of(rows)
    frames = [*moments, *moments[-1:] * PER_SECOND]  # the last one stays for a second
    with figure(width=3.6, height=3.8) as (drawn, axes):
        panel = axes[0, 0]

        def frame(moment: tuple[int, float]) -> list[Any]:
            panel.clear()
            transport_panel(panel, rows, moments, moment)
            return []

        FuncAnimation(drawn, frame, frames=frames, init_func=lambda: []).save(path, PillowWriter(fps=PER_SECOND))


def even(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows that all have the columns of any of them."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key) for key in keys} for row in rows]
