"""What every gradient method is: a frozen dataclass whose fields are its options, and a solve that autograd can use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from torch import Tensor

from noderun.ode.gradients.solve_function import Gradients, Recorded, SolveFunction
from noderun.ode.solvers.integrate import Problem
from noderun.ode.solvers.method import Method
from noderun.ode.solvers.per_sample.problem import SampleProblem
from noderun.ode.solvers.scipy import Scipy


@dataclass(frozen=True)
class Gradient(ABC):
    """How dL/dy0 and dL/dtheta are computed from dL/dys.

    A subclass is a frozen dataclass. It names its options as fields, checks them in ``__post_init__``, sets the class
    variables below and implements ``solve``; ``noderun.solve(..., gradient=Mine(option=...))`` then takes it.
    """

    name: ClassVar[str]
    exact: ClassVar[bool]  # whether it is the gradient of the discrete solve to round-off
    recorded_by_autograd: ClassVar[bool] = False  # if so, f is not called again and need not be checked
    memory: ClassVar[str] = ""  # what is held between the forward and the backward pass
    source: ClassVar[str] = ""
    description: ClassVar[str] = ""

    @abstractmethod
    def solve(self, problem: Problem) -> Tensor:
        """The rows of ``integrate(problem)``, [rows, N] or [rows, *y0.shape], differentiable in y0 and the params."""

    def solve_per_sample(self, problem: SampleProblem) -> Tensor:
        """The same for a solve in which each sample has steps of its own: the rows [R, N] of ``integrate_samples``."""
        raise NotImplementedError

    def refusal(self, method: Method) -> str | None:
        """Why this gradient cannot be taken through the method, in one sentence; None if it can."""
        if isinstance(method, Scipy):
            return (
                f"autograd cannot see inside scipy's solvers, so gradient='{self.name}' cannot differentiate them: "
                "use gradient='adjoint'"
            )
        return None

    def refusal_per_sample(self) -> str | None:
        """The same for a solve with ``per_sample=True``."""
        return (
            f"gradient '{self.name}' has one time for all samples: with per_sample=True use gradient='checkpointed', "
            "'adjoint' or 'backprop'"
        )

    def with_options(self, **options: Any) -> Self:
        """This gradient with some of its options changed; ValueError for an option that it does not have."""
        takes = [field.name for field in fields(self)]
        for name in options:
            if name not in takes:
                there = f"it takes {', '.join(takes)}" if takes else "it takes none"
                raise ValueError(f"gradient '{self.name}' has no option '{name}'; {there}")
        return replace(self, **options)


@dataclass(frozen=True)
class CustomBackward(Gradient):
    """A gradient whose backward pass is written by hand: ``record`` runs forwards, ``pull_back`` backwards."""

    def solve(self, problem: Problem) -> Tensor:
        return SolveFunction.apply(self.name, problem, self.record, self.pull_back, problem.y0, *problem.params)

    @abstractmethod
    def record(self, problem: Problem) -> Recorded:
        """The rows in the caller's shape, the tensors to save, and what else ``pull_back`` needs.

        ValueError or TypeError if this gradient cannot be taken through the problem.
        """

    @abstractmethod
    def pull_back(self, problem: Problem, saved: list[Tensor], kept: Any, ys_grad: Tensor) -> Gradients:
        """dL/dy0 and dL/dtheta from dL/drows; f is to be called as ``backward_field(problem)`` gives it."""
