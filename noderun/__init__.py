"""noderun: a laboratory bench for neural differential equations."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# name -> module it lives in; loaded at first use, so that `noderun --help` does not wait for torch (PEP 562)
PUBLIC = {
    "Event": "noderun.solvers",
    "GRADIENTS": "noderun.gradients",
    "NonFiniteDynamics": "noderun.solvers",
    "SOLVERS": "noderun.solvers",
    "Solution": "noderun.solvers",
    "SolveError": "noderun.solvers",
    "StepLimit": "noderun.solvers",
    "StepUnderflow": "noderun.solvers",
    "odeint": "noderun.torchdiffeq",
    "odeint_adjoint": "noderun.torchdiffeq",
    "odeint_event": "noderun.torchdiffeq",
    "solve": "noderun.engine",
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
