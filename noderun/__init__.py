"""noderun: a laboratory bench for neural differential equations."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what an editor and a type checker see; at run time each name is loaded at its first use
    from noderun.evaluation.load import load_run
    from noderun.models import ODEBlock
    from noderun.ode import (
        CONTROLLERS,
        GRADIENTS,
        METHODS,
        SOLVERS,
        Adjoint,
        Backprop,
        BatchedSolution,
        ButcherTableau,
        Checkpointed,
        DiagonallyImplicit,
        Event,
        ExplicitRungeKutta,
        Forward,
        Gradient,
        Interpolated,
        Method,
        NewtonDivergence,
        NonFiniteDynamics,
        Occurrences,
        Problem,
        Reversible,
        SampleStatistics,
        Solution,
        SolveError,
        Statistics,
        StepController,
        StepLimit,
        StepUnderflow,
        Symplectic,
        integrate,
        odeint,
        odeint_adjoint,
        odeint_event,
        solve,
    )
    from noderun.record.ledger import load_runs
    from noderun.sde import BrownianPath, SDESolution, sdesolve

__version__ = "0.1.0"

__all__ = [
    "Adjoint",
    "Backprop",
    "BatchedSolution",
    "BrownianPath",
    "ButcherTableau",
    "CONTROLLERS",
    "Checkpointed",
    "DiagonallyImplicit",
    "Event",
    "ExplicitRungeKutta",
    "Forward",
    "GRADIENTS",
    "Gradient",
    "Interpolated",
    "METHODS",
    "Method",
    "NewtonDivergence",
    "NonFiniteDynamics",
    "ODEBlock",
    "Occurrences",
    "Problem",
    "Reversible",
    "SDESolution",
    "SOLVERS",
    "SampleStatistics",
    "Solution",
    "SolveError",
    "Statistics",
    "StepController",
    "StepLimit",
    "StepUnderflow",
    "Symplectic",
    "__version__",
    "integrate",
    "load_run",
    "load_runs",
    "odeint",
    "odeint_adjoint",
    "odeint_event",
    "sdesolve",
    "solve",
]

# name -> the module that has it
PUBLIC = {name: "noderun.ode" for name in __all__ if name != "__version__"}
PUBLIC |= {name: "noderun.sde" for name in ("BrownianPath", "SDESolution", "sdesolve")}
PUBLIC |= {"ODEBlock": "noderun.models", "load_run": "noderun.evaluation.load"}
PUBLIC |= {"load_runs": "noderun.record.ledger"}


def __getattr__(name: str) -> Any:
    """Load a public name (PEP 562), so that `noderun --help` does not wait for torch."""
    if name in PUBLIC:
        value = getattr(importlib.import_module(PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'noderun' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
