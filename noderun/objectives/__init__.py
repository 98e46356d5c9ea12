"""What a model is trained for, each with the metrics that it reports."""

from noderun.objectives.classify import Classify
from noderun.objectives.density import MeanNLL
from noderun.objectives.density_matching import DensityMatching
from noderun.objectives.dynamics import Derivative, Trajectory
from noderun.objectives.elbo import ELBO
from noderun.objectives.energy import MinimalEnergy
from noderun.objectives.flow_matching import FlowMatching
from noderun.objectives.objective import Objective
from noderun.objectives.regress import Regress
from noderun.objectives.rollout import RollOut
from noderun.objectives.sde_matching import SDEMatching
from noderun.objectives.series import SeriesObjective
from noderun.objectives.sign_regression import SignRegression

OBJECTIVES: dict[str, type[Objective]] = {
    "classify": Classify,
    "regress": Regress,
    "sign": SignRegression,
    "density": MeanNLL,
    "series": SeriesObjective,
    "flow_matching": FlowMatching,
    "density_matching": DensityMatching,
    "elbo": ELBO,
    "trajectory": Trajectory,
    "derivative": Derivative,
    "sde_matching": SDEMatching,
    "rollout": RollOut,
    "energy": MinimalEnergy,
}

__all__ = ["OBJECTIVES", "Objective"]
