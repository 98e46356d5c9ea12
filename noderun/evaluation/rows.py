"""The rows of each figure of the trained model."""

from __future__ import annotations

from collections.abc import Callable

from noderun.evaluation import depth, flows, identification, plane, rollout, series
from noderun.evaluation.depth import Rows

# name -> its rows of a Setup, and of a plane if the figure is ``in_plane``; ValueError if there is no such picture
ROWS: dict[str, Callable[..., Rows]] = {
    "trajectories": depth.trajectory_rows,
    "steps": depth.step_rows,
    "nfe_per_input": depth.nfe_rows,
    "flow": depth.flow_rows,
    "decision": depth.decision_rows,
    "grid": plane.grid_rows,
    "density": flows.density_rows,
    "velocity": flows.velocity_rows,
    "transport": flows.transport_rows,
    "norms": depth.norm_rows,
    "phase": identification.phase_rows,
    "parameters": identification.parameter_rows,
    "series": series.series_rows,
    "hidden": series.hidden_rows,
    "latent": series.latent_rows,
    "rate": series.rate_rows,
    "prior": series.prior_rows,
    "diffusion": series.diffusion_rows,
    "spacetime": rollout.spacetime_rows,
}
