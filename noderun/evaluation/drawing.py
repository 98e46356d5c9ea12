"""Figures that need the trained model: rows are made from the model, then drawn without it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from noderun.evaluation.depth import Plane
from noderun.evaluation.rows import ROWS
from noderun.report.figures import FIGURES
from noderun.training.setup import Setup

log = logging.getLogger(__name__)


def draw_named(names: Sequence[str], setup: Setup, folder: Path, plane: Plane | None = None) -> None:
    """Draw the named figures that this model can have, those in a plane in this one, and log those that it cannot.

    Raises ValueError if only one is named and the model cannot have it.
    """
    for name in names:
        try:
            rows = ROWS[name](setup, plane) if FIGURES[name].in_plane else ROWS[name](setup)
        except ValueError as error:
            if len(names) == 1:
                raise
            log.warning("no figure %s: %s", name, error)
            continue
        FIGURES[name].draw(rows, folder / f"{name}.png")
