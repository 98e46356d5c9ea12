"""Regularizers: a penalty on the field, integrated along the solve and added to the loss with ``weight``."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from noderun.config.options.option import FACT, Option, declaration
from noderun.config.options.types import Count, NotNegative

MEAN = "factor on the mean over batch and dimensions"


@dataclass(frozen=True)
class Regularizer(Option, group="regularizer"):
    """A penalty on the field, integrated along the solve and added to the loss with ``weight``."""

    name: Annotated[str, FACT]
    weight: Annotated[NotNegative, MEAN] = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    user_class: str | None = None


@declaration
class Nothing(Regularizer, name="none"):
    """The loss alone."""

    weight: Annotated[NotNegative, FACT] = 0.0


@declaration
class Kinetic(Regularizer, name="kinetic"):
    """Kinetic energy, the mean of |f|^2 along the flow (Finlay et al. 2020): straight paths at constant speed."""

    weight: Annotated[NotNegative, f"{MEAN}; the authors' for images"] = 0.01


@declaration
class Jacobian(Regularizer, name="jacobian"):
    """Size of df/dy along the flow, by one vector of noise per solve (Finlay et al. 2020)."""

    weight: Annotated[NotNegative, f"{MEAN}; the authors' for images"] = 0.01


@declaration
class TayNode(Regularizer, name="taynode"):
    """Size of the order-th derivative of the solution (Kelly et al. 2020)."""

    weight: Annotated[NotNegative, MEAN] = 1e-3
    order: Annotated[Count, "the authors' 3 for MNIST; the cost of f about doubles with each"] = 3


@declaration
class ErrorEstimate(Regularizer, name="error"):
    """The solver's own error estimate, as root mean square, at one random time per solve (Pal et al. 2021 and 2023)."""

    weight: Annotated[
        NotNegative, "estimates are about as small as the tolerance: 0.01 to 0.1 over it, here over 1e-3"
    ] = 10.0


@declaration
class Stiffness(Regularizer, name="stiffness"):
    """The solver's own estimate of stiffness, a lower bound of |df/dy|, at one random time per solve (Pal et al. 2021
    and 2023)."""

    weight: Annotated[NotNegative, MEAN] = 0.01
