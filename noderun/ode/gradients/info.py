"""What is to be known of a gradient method before it is chosen, and what can be chosen of it."""

from __future__ import annotations

from dataclasses import dataclass

from noderun.ode.solvers.control import StepOptions


@dataclass(frozen=True)
class GradientInfo:
    """``exact``: the gradient of the discrete solve to round-off; ``held``: between the forward and the backward."""

    exact: bool
    held: str
    source: str
    description: str
    options: tuple[str, ...] = ()  # the fields of Backward that this method reads


@dataclass(frozen=True)
class GradientOptions:
    """The choices of a backward pass; ValueError where one is out of range."""

    control: StepOptions  # where the gradient is itself a solve
    norm: str = "full"  # what the error norm of an adjoint sees: "full" (z, a, theta), or "seminorm" (z, a)
    checkpoints: int | None = None  # how many states are held; None: that of every accepted step

    def __post_init__(self) -> None:
        if self.norm not in ("full", "seminorm"):
            raise ValueError(f"gradient norm is '{self.norm}'; it is 'full' or 'seminorm'")
        if self.checkpoints is not None and self.checkpoints < 1:
            raise ValueError(f"checkpoints is {self.checkpoints}; it is a number of states from 1, or None for all")
