"""The errors of a solve; each carries the solution as far as it got."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from noderun.ode.per_sample import BatchedSolution
    from noderun.ode.solvers.statistics import Solution


class SolveError(RuntimeError):
    """A solve that could not reach its end; it got to ``t`` after ``step`` steps, and ``solution`` is NaN behind."""

    status = "failed"
    remedy = ""

    def __init__(self, message: str, t: float, step: int) -> None:
        super().__init__(message)
        self.t, self.step = t, step
        self.sample: int | None = None  # the first one that failed, with per_sample=True
        self.ys: Tensor | None = None  # flat outputs, set by the loop
        self.solution: Solution | BatchedSolution | None = None  # set by solve()


class NonFiniteDynamics(SolveError):
    """f returned NaN or infinity at a point that the solve cannot avoid."""

    status = "nonfinite"
    remedy = "look at that function there, or end the solve before, by its last time or a terminal event"


class StepUnderflow(SolveError):
    """The step size that the tolerance asks for is below the resolution of t."""

    status = "underflow"
    remedy = "loosen rtol and atol, name jumps of f in jump_ts, or end the solve before a pole"


class StepLimit(SolveError):
    """max_steps attempted steps did not reach the end."""

    status = "step_limit"
    remedy = "raise max_steps, loosen the tolerance, or take an implicit solver, for instance kvaerno5, if f is stiff"


class NewtonDivergence(SolveError):
    """Newton's iteration for the stages of an implicit step did not converge: a smaller step may help."""

    status = "newton"
    remedy = "take smaller steps, or look whether f is smooth there"
