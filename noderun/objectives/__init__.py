"""What a model is trained for, each with the metrics that it reports."""

from noderun.objectives.classify import Classify
from noderun.objectives.density import MeanNLL
from noderun.objectives.elbo import Elbo
from noderun.objectives.objective import Objective
from noderun.objectives.regress import Regress
from noderun.objectives.series import SeriesObjective
from noderun.objectives.sign_regression import SignRegression

OBJECTIVES: dict[str, type[Objective]] = {
    "classify": Classify,
    "regress": Regress,
    "sign": SignRegression,
    "density": MeanNLL,
    "series": SeriesObjective,
    "elbo": Elbo,
}

__all__ = ["OBJECTIVES", "Objective"]
