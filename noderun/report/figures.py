"""The registry of figures: what each one shows, what it is drawn from, and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from noderun.config.validation import ConfigError, nearest
from noderun.report import costs, curves, depth, flows, identification, likelihoods, plane, precision, rollout, series
from noderun.report.epochs import Panel, draw_epochs, rows_by_epoch
from noderun.report.folders import Run

Rows = list[dict[str, Any]]
Source = Literal["runs", "model", "measurements"]


@dataclass(frozen=True)
class Figure:
    """``draw(rows, path)`` writes the PNG at ``path`` and the CSV of its rows beside it.

    ``rows`` makes the rows out of the runs, or out of the measurements of `noderun evaluate`; it returns none if they
    cannot have the figure, and ``needs`` says what is missing. The rows of a figure of the trained model come from the
    function of the same name in ``evaluation.rows.ROWS`` instead. ``panel`` draws the same picture into given axes:
    training then leaves its rows at several epochs, and NAME_by_epoch shows them side by side with ``legend`` as the
    legend's title.
    """

    title: str
    needs: str
    draw: Callable[[Rows, Path], None]
    rows: Callable[[Any], Rows] = lambda found: []
    source: Source = "runs"
    of_solve: bool = False  # whether only a model that solves an ODE has it
    in_plane: bool = False  # whether it shows two components of the state, which the user may choose
    panel: Panel | None = None
    legend: str = ""


FIGURES = {
    "learning": Figure(
        "Loss and error by epoch",
        "a run that has trained a step",
        curves.draw_learning,
        curves.learning_rows,
    ),
    "nfe": Figure(
        "NFE by epoch",
        "a model that solves an ODE",
        curves.draw_nfe,
        curves.nfe_rows,
    ),
    "figure3": Figure(
        "Chen et al. 2018, figure 3",
        "finished runs of a model that solves an ODE, at several tolerances or steps",
        costs.draw_figure3,
        costs.tolerance_rows,
    ),
    "memory": Figure(
        "Memory against NFE",
        "finished runs with several gradient methods or several NFE",
        costs.draw_memory,
        costs.memory_rows,
    ),
    "nfe_loss": Figure(
        "NFE against loss",
        "several finished runs of a model that solves an ODE",
        costs.draw_loss,
        costs.loss_rows,
    ),
    "regularizer": Figure(
        "NFE and error against the regularizer's weight",
        "a sweep over regularizer.weight",
        partial(costs.draw_weight, key=costs.WEIGHT, name="weight of the regularizer"),
        partial(costs.weight_rows, key=costs.WEIGHT),
    ),
    "weight_decay": Figure(
        "NFE and what the test found against weight decay",
        "a sweep over optimizer.weight_decay",
        partial(costs.draw_weight, key=costs.DECAY, name="weight decay"),
        partial(costs.weight_rows, key=costs.DECAY),
    ),
    "nll_seconds": Figure(
        "NLL against seconds of training",
        "a density that was tested",
        likelihoods.draw_seconds,
        likelihoods.seconds_rows,
    ),
    "nll_tolerance": Figure(
        "NLL against the tolerance of the test",
        "measurements of a continuous flow of several NFE",
        likelihoods.draw_tolerance,
        likelihoods.tolerance_rows,
        source="measurements",
    ),
    "precision": Figure(
        "Precision against NFE and time",
        "measurements of several NFE",
        precision.draw_precision,
        precision.precision_rows,
        source="measurements",
    ),
    "matrix": Figure(
        "Training solver against test solver",
        "measurements of several training solvers under several test solvers",
        precision.draw_matrix,
        precision.matrix_rows,
        source="measurements",
    ),
    "trajectories": Figure(
        "Hidden state over depth",
        "a model that has depth",
        depth.draw_trajectories,
        source="model",
        in_plane=True,
        panel=depth.trajectory_panel,
        legend="class",
    ),
    "steps": Figure(
        "Steps along depth",
        "a model that solves an ODE",
        depth.draw_steps,
        source="model",
        of_solve=True,
    ),
    "nfe_per_input": Figure(
        "NFE of each input",
        "a model that solves an ODE",
        depth.draw_nfe_per_input,
        source="model",
        of_solve=True,
    ),
    "flow": Figure(
        "Chen et al. 2018, figure 1",
        "a model that solves an ODE, in one or two dimensions or two components of more",
        depth.draw_flow,
        source="model",
        of_solve=True,
        in_plane=True,
    ),
    "decision": Figure(
        "Decision map",
        "points in a plane with two classes",
        depth.draw_decision,
        source="model",
        panel=depth.decision_panel,
    ),
    "grid": Figure(
        "The plane before and after the map",
        "a map of the plane: points in it as inputs and as targets",
        plane.draw_grid,
        source="model",
    ),
    "density": Figure(
        "Data, density and samples",
        "a normalizing flow of points in a plane",
        flows.draw_density,
        source="model",
    ),
    "velocity": Figure(
        "Velocity field",
        "a continuous flow of points in a plane",
        flows.draw_velocity,
        source="model",
        of_solve=True,
    ),
    "transport": Figure(
        "Particles and density over time",
        "a continuous flow of points in a plane",
        flows.draw_transport,
        source="model",
        of_solve=True,
    ),
    "norms": Figure(
        "Norm of the state along depth",
        "a model that has depth",
        depth.draw_norms,
        source="model",
    ),
    "phase": Figure(
        "Phase portrait",
        "a model of series whose state is observed, of two numbers or more",
        identification.draw_phase,
        source="model",
        of_solve=True,
        in_plane=True,
    ),
    "parameters": Figure(
        "Parameters with intervals",
        "model=physics or hybrid",
        identification.draw_parameters,
        source="model",
        of_solve=True,
    ),
    "series": Figure(
        "Series: given, asked and answered",
        "a model of time series",
        series.draw_series,
        source="model",
    ),
    "hidden": Figure(
        "Hidden state over time",
        "a model of time series that answers from a hidden state",
        series.draw_hidden,
        source="model",
    ),
    "latent": Figure(
        "Latent paths",
        "a latent ODE",
        series.draw_latent,
        source="model",
    ),
    "rate": Figure(
        "Learned rate of observations beside the true one",
        "model=latent_ode model.poisson=true of data=point_process",
        series.draw_rate,
        source="model",
    ),
    "prior": Figure(
        "Series drawn from the prior beside those of the data",
        "a latent ODE or SDE",
        series.draw_prior,
        source="model",
    ),
    "diffusion": Figure(
        "Learned diffusion beside the true one",
        "a latent SDE of data whose diffusion is known",
        series.draw_diffusion,
        source="model",
    ),
    "rollout": Figure(
        "nRMSE against the steps of the roll-out",
        "runs with model.objective=rollout that were tested",
        rollout.draw_rollout,
        rollout.rollout_rows,
    ),
    "spacetime": Figure(
        "A roll-out in space and time",
        "a model of fields on a grid, with model.objective=rollout",
        rollout.draw_spacetime,
        source="model",
    ),
}
FIGURES |= {
    f"{name}_by_epoch": Figure(
        f"{figure.title} by epoch",
        f"one run of {figure.needs}, trained with trainer.diagnostics_every",
        partial(draw_epochs, panel=figure.panel, legend=figure.legend),
        partial(rows_by_epoch, f"{name}_by_epoch"),
    )
    for name, figure in FIGURES.items()
    if figure.panel
}


def names_of(source: Source) -> list[str]:
    return [name for name, figure in FIGURES.items() if figure.source == source]


def title_of(path: Path) -> str:
    """What a figure of a model shows, by the name of its file."""
    return FIGURES[path.stem].title if path.stem in FIGURES else path.stem.replace("_", " ").capitalize()


def draw_figures(found: Sequence[Run], folder: Path, names: Iterable[str] = ()) -> list[Path]:
    """Draw the named figures of these runs into ``folder``, or without names all that the runs can have.

    Raises ConfigError if a named figure is unknown or these runs cannot have it.
    """
    chosen: dict[str, Rows] = {}
    for name in names:
        if name not in names_of("runs"):
            instead = f"; `noderun evaluate run=FOLDER figures={name}` draws it" if name in names_of("model") else ""
            raise ConfigError(f"no figure '{name}' of runs{instead or nearest(name, names_of('runs'))}")
        chosen[name] = FIGURES[name].rows(found)
        if not chosen[name]:
            raise ConfigError(f"there can be no figure '{name}' here: it needs {FIGURES[name].needs}")
    return draw_rows(chosen, folder) if chosen else draw_possible(found, folder, names_of("runs"))


def draw_possible(found: Any, folder: Path, names: Iterable[str]) -> list[Path]:
    """Draw those of the named figures that have rows; return their paths."""
    return draw_rows({name: rows for name in names if (rows := FIGURES[name].rows(found))}, folder)


def draw_rows(rows: Mapping[str, Rows], folder: Path) -> list[Path]:
    """Draw each figure from its rows; return their paths."""
    paths = {name: folder / f"{name}.png" for name in rows}
    for name, path in paths.items():
        FIGURES[name].draw(rows[name], path)
    return list(paths.values())
