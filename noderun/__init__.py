"""noderun: a laboratory bench for neural differential equations."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what an editor and a type checker see; at run time PUBLIC is loaded at first use
    from noderun.evaluation.load import load_run as load_run
    from noderun.ode.engine import solve as solve
    from noderun.ode.gradients import GRADIENTS as GRADIENTS
    from noderun.ode.solvers import SOLVERS as SOLVERS
    from noderun.ode.solvers import Event as Event
    from noderun.ode.solvers import NonFiniteDynamics as NonFiniteDynamics
    from noderun.ode.solvers import Solution as Solution
    from noderun.ode.solvers import SolveError as SolveError
    from noderun.ode.solvers import StepLimit as StepLimit
    from noderun.ode.solvers import StepUnderflow as StepUnderflow
    from noderun.ode.torchdiffeq import odeint as odeint
    from noderun.ode.torchdiffeq import odeint_adjoint as odeint_adjoint
    from noderun.ode.torchdiffeq import odeint_event as odeint_event

__version__ = "0.1.0"

# name -> module it lives in; loaded at first use, so that `noderun --help` does not wait for torch (PEP 562)
PUBLIC = {
    "Event": "noderun.ode.solvers",
    "GRADIENTS": "noderun.ode.gradients",
    "NonFiniteDynamics": "noderun.ode.solvers",
    "SOLVERS": "noderun.ode.solvers",
    "Solution": "noderun.ode.solvers",
    "SolveError": "noderun.ode.solvers",
    "StepLimit": "noderun.ode.solvers",
    "StepUnderflow": "noderun.ode.solvers",
    "load_run": "noderun.evaluation.load",
    "odeint": "noderun.ode.torchdiffeq",
    "odeint_adjoint": "noderun.ode.torchdiffeq",
    "odeint_event": "noderun.ode.torchdiffeq",
    "solve": "noderun.ode.engine",
}
__all__ = ["__version__", *PUBLIC]


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        value = getattr(importlib.import_module(PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'noderun' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
