"""Figures that need the trained model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noderun.training.setup import Setup


def draw_lesions(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    from noderun.report.depth import draw_lesions as draw

    draw(rows, folder / "lesions.png")


def draw_named(names: Sequence[str], setup: Setup, folder: Path) -> None:
    pass
