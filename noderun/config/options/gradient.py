"""Gradients: how dL/dtheta passes through a solve."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from noderun.config.options.option import FACT, Option, Reference, declaration
from noderun.config.options.types import Count, Positive, Tolerance

Checkpoints = Annotated[Count | None, "how many states to hold; null: that of every accepted step"]


@dataclass(frozen=True)
class Gradient(Option, group="gradient"):
    """How dL/dtheta passes through the solve; tolerances are None if the solver's are."""

    name: Annotated[str, FACT]
    rtol: Annotated[
        Tolerance | None,
        Reference("${solver.rtol}"),
        "relative tolerance of a gradient that is itself a solve; a looser one saves backward evaluations",
    ] = 1e-3
    atol: Annotated[
        Positive | None, Reference("${solver.atol}"), "absolute tolerance of a gradient that is itself a solve"
    ] = 1e-3
    options: dict[str, Any] = field(default_factory=dict)


@declaration
class Adjoint(Gradient, name="adjoint"):
    """The continuous adjoint (Pontryagin 1962, Chen et al. 2018): a second ODE backwards in time; constant memory."""

    norm: Annotated[
        Literal["full", "seminorm"],
        "what the error norm sees: full: z, a and the integral for the parameters; seminorm: z and a",
    ] = "full"


@declaration
class Interpolated(Gradient, name="interpolated"):
    """The adjoint along the stored dense forward solution: it does not drift, at several stored states per step."""

    norm: Annotated[
        Literal["full", "seminorm"],
        "what the error norm sees: full: a and the integral for the parameters; seminorm: a",
    ] = "full"


class Backprop(Gradient, name="backprop"):
    """Through the steps of the solver: exact for the discrete solution; memory grows with the number of steps."""


@declaration
class Checkpointed(Gradient, name="checkpointed"):
    """Backprop that keeps only the states between steps and makes each step again backwards: exact; little memory."""

    checkpoints: Checkpoints = None


@declaration
class Symplectic(Gradient, name="symplectic"):
    """Checkpointed, replayed stage by stage with one graph of f at a time: exact, in the least memory; it costs one
    more evaluation of f per stage."""

    checkpoints: Checkpoints = None


class Forward(Gradient, name="forward"):
    """Tangents carried along with the accepted steps: exact; for a handful of parameters only."""


class Reversible(Gradient, name="reversible"):
    """Steps back exactly with a reversible solver (asynchronous_leapfrog, reversible_heun): exact; constant memory."""
