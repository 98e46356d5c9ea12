"""Figures that need the trained model: rows are made from the model, then drawn without it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from noderun.evaluation.depth import ROWS
from noderun.report.depth import DRAW
from noderun.training.setup import Setup

log = logging.getLogger(__name__)


def draw_named(names: Sequence[str], setup: Setup, folder: Path) -> None:
    """Draw the figures that can be drawn and warn of the others; ValueError if the only one asked for cannot be."""
    for name in names:
        try:
            rows = ROWS[name](setup)
        except ValueError as error:
            if len(names) == 1:
                raise
            log.warning("no figure %s: %s", name, error)
            continue
        DRAW[name](rows, folder / f"{name}.png")
