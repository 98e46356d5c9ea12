"""Schedulers: the learning rate along training."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from noderun.config.options.option import FACT, Option, Reference, declaration
from noderun.config.options.types import Count, Fraction, Positive

Horizon = Annotated[
    Count | None,
    Reference("${trainer.epochs}"),
    "epochs after which the schedule ends; it counts: another horizon is another run",
]


@dataclass(frozen=True)
class Scheduler(Option, group="scheduler"):
    """The learning rate along training; ``horizon`` (epochs) is None for a schedule that has no end."""

    name: Annotated[str, FACT]
    horizon: Annotated[Count | None, FACT] = None
    options: dict[str, Any] = field(default_factory=dict)


class Constant(Scheduler, name="constant"):
    """The learning rate stays as it is; the only schedule by which a finished run can go on for more epochs."""


@declaration
class Cosine(Scheduler, name="cosine"):
    """Half a cosine down to the floor (Loshchilov and Hutter 2017)."""

    horizon: Horizon = None
    floor: Annotated[Fraction, "fraction of the learning rate"] = 0.0
    restarts: Annotated[
        tuple[Positive, ...], "epochs at which it starts anew, as in multi-level training (model.double_at)"
    ] = ()


@declaration
class OneCycle(Scheduler, name="one_cycle"):
    """Up, then down by cosines (Smith and Topin 2018): the most that few epochs can give."""

    horizon: Horizon = None
    warmup: Annotated[Fraction, "fraction of the steps on the way up; PyTorch's default"] = 0.3
    start: Annotated[Positive, "fraction of the learning rate at the start; PyTorch's default"] = 0.04
    end: Annotated[Positive, "fraction of the learning rate at the end; PyTorch's default"] = 4e-6


@declaration
class Step(Scheduler, name="step"):
    """Times gamma at each milestone, as Chen et al. 2018 for MNIST."""

    milestones: Annotated[tuple[Positive, ...], "epochs"] = (60.0, 100.0, 140.0)
    gamma: Positive = 0.1
