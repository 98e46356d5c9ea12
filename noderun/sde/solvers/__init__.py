"""Methods for dy = f dt + g dW. ``SOLVERS`` names them all."""

from __future__ import annotations

from typing import Any

from noderun.ode.solvers.method import Method
from noderun.sde.solvers import euler, heun, midpoint, milstein, reversible_heun
from noderun.sde.solvers.doubled import Doubled
from noderun.sde.solvers.method import SDEInfo, SDEMethod

MODULES = (euler, milstein, heun, midpoint, reversible_heun)
METHODS: dict[str, Method[Any]] = {module.METHOD.name: module.METHOD for module in MODULES}
SOLVERS: dict[str, SDEInfo] = {module.METHOD.name: module.METHOD.info for module in MODULES}

__all__ = ["METHODS", "SOLVERS", "Doubled", "SDEInfo", "SDEMethod"]
