"""Which figures there are, and which of them a set of runs can have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noderun.config.validation import ConfigError, nearest
from noderun.report import costs, curves, epochs
from noderun.report.folders import Run

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Figure:
    """``rows`` are what it is drawn from, none where these runs cannot have it; ``needs`` says why."""

    title: str
    rows: Callable[[Sequence[Run]], Rows]
    draw: Callable[[Rows, Path], None]
    needs: str


FIGURES = {
    "learning": Figure(
        "Loss and error by epoch", curves.learning_rows, curves.draw_learning, "a run that has trained a step"
    ),
    "nfe": Figure("NFE by epoch", curves.nfe_rows, curves.draw_nfe, "a model that solves an ODE"),
    "figure3": Figure(
        "Chen et al. 2018, figure 3",
        costs.tolerance_rows,
        costs.draw_figure3,
        "finished runs of a model that solves an ODE, at several tolerances or steps",
    ),
    "memory": Figure(
        "Memory against NFE",
        costs.memory_rows,
        costs.draw_memory,
        "finished runs with several gradient methods or several NFE",
    ),
    "nfe_loss": Figure(
        "NFE against loss", costs.loss_rows, costs.draw_loss, "several finished runs of a model that solves an ODE"
    ),
    "regularizer": Figure(
        "NFE and error against the regularizer's weight",
        costs.regularizer_rows,
        costs.draw_regularizer,
        "a sweep over regularizer.weight",
    ),
    "decision_by_epoch": Figure(
        "Decision map by epoch",
        epochs.rows_by_epoch("decision_by_epoch"),
        epochs.draw_decision_by_epoch,
        "one run on points in a plane with classes, trained with trainer.diagnostics_every",
    ),
    "trajectories_by_epoch": Figure(
        "Hidden state over depth by epoch",
        epochs.rows_by_epoch("trajectories_by_epoch"),
        epochs.draw_trajectories_by_epoch,
        "one run of a model that has depth, trained with trainer.diagnostics_every",
    ),
}


def draw_figures(found: Sequence[Run], folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Draws into ``folder`` those of ``names`` (none: all that these runs can have).

    SettingError where one that was named is unknown or cannot be.
    """
    drawn = []
    for name in names or FIGURES:
        if name not in FIGURES:
            raise ConfigError(f"no figure '{name}'{nearest(name, FIGURES)}")
        rows = FIGURES[name].rows(found)
        if rows:
            FIGURES[name].draw(rows, folder / f"{name}.png")
            drawn.append(folder / f"{name}.png")
        elif names:
            raise ConfigError(f"there can be no figure '{name}' here: it needs {FIGURES[name].needs}")
    return drawn
