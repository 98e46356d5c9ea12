"""Optimizers."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from noderun.config.options.option import FACT, Option, declaration
from noderun.config.options.types import Count, Fraction, NotNegative, Positive

Betas = Annotated[tuple[Fraction, ...], "decay of the means of the gradient and of its square"]


@dataclass(frozen=True)
class Optimizer(Option, group="optimizer"):
    """How the parameters follow the gradient."""

    name: Annotated[str, FACT]
    lr: Annotated[Positive, "learning rate"] = 3e-3
    weight_decay: NotNegative = 0.0
    options: dict[str, Any] = field(default_factory=dict)


@declaration
class Adam(Optimizer, name="adam"):
    """Adam (Kingma and Ba 2015)."""

    lr: Annotated[Positive, "learning rate; the paper's and everybody's default"] = 1e-3
    betas: Betas = (0.9, 0.999)


@declaration
class AdamW(Optimizer, name="adamw"):
    """AdamW (Loshchilov and Hutter 2019)."""

    lr: Annotated[Positive, "learning rate; usual with one_cycle"] = 3e-3
    weight_decay: Annotated[NotNegative, "PyTorch's default"] = 0.01
    betas: Betas = (0.9, 0.999)


@declaration
class Sgd(Optimizer, name="sgd"):
    """Stochastic gradient descent with momentum."""

    lr: Annotated[Positive, "learning rate; Chen et al. 2018 for MNIST"] = 0.1
    momentum: Fraction = 0.9


@declaration
class Lbfgs(Optimizer, name="lbfgs"):
    """L-BFGS (Liu and Nocedal 1989) with a strong-Wolfe line search, for few parameters and all data in one batch; a
    step is up to ``iterations`` of it."""

    lr: Annotated[Positive, "length of the first try along each direction"] = 1.0
    weight_decay: Annotated[float, FACT] = 0.0
    iterations: Annotated[Count, "per step"] = 10
    history: Annotated[Count, "updates that are remembered"] = 20
