"""Every option that can be chosen. Each is declared here once: its settings with types, ranges, defaults and words."""

from noderun.config.options import flow_models, series_data, series_models, vector_data  # noqa: F401 (fill OPTIONS)
from noderun.config.options.data import Data
from noderun.config.options.dynamics import Dynamics
from noderun.config.options.gradient import Gradient
from noderun.config.options.model import Model
from noderun.config.options.objective import Objective
from noderun.config.options.optimizer import Optimizer
from noderun.config.options.option import OPTIONS, Option
from noderun.config.options.regularizer import Regularizer
from noderun.config.options.scheduler import Scheduler
from noderun.config.options.solver import Solver
from noderun.config.options.trainer import Trainer

__all__ = [
    "OPTIONS",
    "Data",
    "Dynamics",
    "Gradient",
    "Model",
    "Objective",
    "Optimizer",
    "Option",
    "Regularizer",
    "Scheduler",
    "Solver",
    "Trainer",
]
