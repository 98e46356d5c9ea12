"""Pictures of what a generative model has drawn, beside the data; arrays in, a PNG and its CSV out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noderun.report.style import COLORS, figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 2000  # points of a scatter
SIDE = 8  # images along one side of a grid
BINS, COLUMNS, DIMENSIONS = 50, 4, 32  # of histograms


def draw_samples(data: np.ndarray, samples: np.ndarray, path: Path) -> None:
    """Points in a plane as clouds, images as grids, other vectors as one histogram per dimension."""
    if samples.ndim == 4:
        draw_images({"data": data, "samples": samples}, path, SIDE)
    elif samples.shape[1] == 2:
        draw_points(data, samples, path)
    else:
        draw_histograms(data, samples, path)


def draw_points(data: np.ndarray, samples: np.ndarray, path: Path) -> None:
    with figure(1, 2, width=4.0, height=4.0) as (drawn, axes):
        for panel, title, points in zip(axes[0], ("data", "samples"), (data, samples), strict=True):
            cloud(panel, points[:SHOWN])
            panel.set(title=f"{title} ({min(len(points), SHOWN)} points)")
        span(axes[0], data)
        save(drawn, path, [*rows_of("data", data), *rows_of("samples", samples)])


def cloud(axes: Axes, points: np.ndarray, color: str = COLORS[0]) -> None:
    axes.plot(points[:, 0], points[:, 1], ".", color=color, markersize=2, alpha=0.5, markeredgewidth=0)
    axes.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")


def span(axes: Sequence[Axes], data: np.ndarray) -> None:
    """The same window for all panels: that of the data, with a margin."""
    low, high = data.min(0), data.max(0)
    margin = 0.1 * (high - low)
    for panel in axes:
        panel.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))


def rows_of(kind: str, points: np.ndarray) -> list[dict[str, Any]]:
    return [{"kind": kind, "x": float(x), "y": float(y)} for x, y in points[:SHOWN]]


def draw_images(groups: dict[str, np.ndarray], path: Path, side: int) -> None:
    """A grid of images for each group; the CSV has a line per image with its values in [0, 1]."""
    lines = max(-(-min(len(images), side * side) // side) for images in groups.values())
    with figure(1, len(groups), width=0.5 * side, height=0.5 * lines + 0.3) as (drawn, axes):
        for panel, (title, images) in zip(axes[0], groups.items(), strict=True):
            panel.imshow(tiled(images[: side * side], side), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            panel.set(title=title)
            panel.set_axis_off()
        save(drawn, path, [row for name, images in groups.items() for row in image_rows(name, images[: side * side])])


def tiled(images: np.ndarray, side: int) -> np.ndarray:
    """[N, C, H, W] as one picture [H', W'] or [H', W', 3] with a line of white between the images."""
    count, channels, height, width = images.shape
    rows = -(-count // side)
    sheet = np.ones((rows * (height + 1) - 1, side * (width + 1) - 1, channels))
    for i, image in enumerate(np.clip(images, 0, 1)):
        top, left = (i // side) * (height + 1), (i % side) * (width + 1)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return sheet[:, :, 0] if channels == 1 else sheet


def image_rows(kind: str, images: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"kind": kind, "image": i} | {f"p{j}": round(float(v), 4) for j, v in enumerate(image.ravel())}
        for i, image in enumerate(images)
    ]


def draw_histograms(data: np.ndarray, samples: np.ndarray, path: Path) -> None:
    """The distribution of each of the first dimensions, of the data filled and of the samples as a line."""
    dim = min(samples.shape[1], DIMENSIONS)
    rows: list[dict[str, Any]] = []
    with figure(-(-dim // COLUMNS), min(dim, COLUMNS), width=2.4, height=2.0) as (drawn, axes):
        for i, panel in enumerate(axes.flat):
            if i >= dim:
                panel.set_axis_off()
                continue
            edges = np.histogram_bin_edges(data[:, i], BINS)
            heights = {
                name: np.histogram(x[:, i], edges)[0] / (len(x) * np.diff(edges))
                for name, x in (("data", data), ("samples", samples))
            }
            panel.stairs(heights["data"], edges, fill=True, color=COLORS[4], alpha=0.6, label="data")
            panel.stairs(heights["samples"], edges, color=COLORS[1], label="samples")
            panel.set(title=f"dimension {i + 1}")
            rows += [
                {"dimension": i + 1, "from": a, "to": b, "data": c, "samples": d}
                for a, b, c, d in zip(edges, edges[1:], heights["data"], heights["samples"], strict=False)
            ]
        drawn.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower right", ncols=2)
        save(drawn, path, rows)


def draw_interpolation(data: np.ndarray, samples: np.ndarray, path: Path) -> None:
    """The way between two examples: a curve among the data, a strip of images, or each dimension along the way."""
    if samples.ndim == 4:
        shown = np.linspace(0, len(samples) - 1, min(len(samples), 2 * SIDE)).round().astype(int)
        draw_images({"between": samples[shown]}, path, len(shown))
        return
    with figure(width=5.0, height=4.2) as (drawn, axes):
        panel = axes[0, 0]
        if samples.shape[1] == 2:
            cloud(panel, data[:SHOWN], COLORS[4])
            panel.plot(*samples.T, "-o", color=COLORS[1], markersize=3)
            panel.plot(*samples[[0, -1]].T, "s", color=COLORS[6], label="ends")
            panel.legend()
        else:
            panel.plot(
                np.linspace(0, 1, len(samples)),
                samples,
                label=[f"{i + 1}" for i in range(samples.shape[1])],
            )
            panel.set(xlabel="along the way", ylabel="value")
            panel.legend(title="dimension", ncols=2)
        columns = [f"x{i + 1}" for i in range(samples.shape[1])]
        save(drawn, path, [dict(zip(columns, map(float, x), strict=True)) for x in samples])
