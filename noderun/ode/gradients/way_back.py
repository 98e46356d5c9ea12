"""Backward solves that take far more steps than the solve that they go back over: said before they fail."""

from __future__ import annotations

import warnings

from noderun.ode.solvers.control import StepOptions

MORE, ANYWAY = 5, 50  # times as many attempts as the way there, beside one for each output, and so many more


class WayBack:
    """Warns once of a state that is unstable when it is integrated backwards, as every stiff one is."""

    def __init__(
        self, gradient: str, forward: int, outputs: int, there: StepOptions, back: StepOptions, order: int
    ) -> None:
        self.gradient, self.forward = gradient, forward
        self.limit = MORE * (forward + outputs) * tighter(there, back) ** (1 / (order + 1)) + ANYWAY

    def watch(self, attempts: int) -> None:
        if attempts <= self.limit:
            return
        self.limit = float("inf")
        warnings.warn(
            f"gradient='{self.gradient}': {attempts} steps so far on the way back, {self.forward} on the way there: "
            "back in time the solution is unstable or stiff, or f has kinks (ReLU); use gradient='checkpointed', which "
            "makes the steps of the way there again, or 'interpolated', which integrates no state back",
            RuntimeWarning,
            stacklevel=2,
        )


def tighter(there: StepOptions, back: StepOptions) -> float:
    """How many times smaller the tolerance is on the way back."""
    if isinstance(there.rtol, float) and isinstance(back.rtol, float) and back.rtol > 0:
        return max(1.0, there.rtol / back.rtol)
    return 1.0
