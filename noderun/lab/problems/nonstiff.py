"""Nonstiff problems, for the comparison of explicit methods."""

from __future__ import annotations

import torch
from torch import Tensor

from noderun.lab.problems.problem import Problem

SCIML = "SciMLBenchmarks, NonStiffODE"
ARENSTORF_PERIOD = 17.0652165601579625588917206249


def lotka_volterra() -> Problem:
    """Prey x' = (1.5 - y) x and predators y' = (x - 3) y."""

    def f(t: Tensor, y: Tensor) -> Tensor:
        prey, predators = y.unbind()
        return torch.stack(((1.5 - predators) * prey, (prey - 3.0) * predators))

    def invariant(y: Tensor) -> Tensor:
        prey, predators = y.unbind(-1)
        return prey - 3.0 * prey.log() + predators - 1.5 * predators.log()

    return Problem(
        "lotka_volterra", f, (1.0, 1.0), (0.0, 10.0), f"Lotka 1925, Volterra 1926; {SCIML}", invariants={"V": invariant}
    )


def rigid_body() -> Problem:
    """Euler's equations of a free rigid body."""
    a, b, c = -2.0, 1.25, -0.5

    def f(t: Tensor, y: Tensor) -> Tensor:
        return torch.stack((a * y[1] * y[2], b * y[0] * y[2], c * y[0] * y[1]))

    return Problem(
        "rigid_body",
        f,
        (1.0, 0.0, 0.9),
        (0.0, 20.0),
        f"Euler 1758; Krogh 1973; {SCIML}",
        invariants={
            "momentum": lambda y: b * y[..., 0] ** 2 - a * y[..., 1] ** 2,
            "energy": lambda y: c * y[..., 1] ** 2 - b * y[..., 2] ** 2,
        },
    )


def fitzhugh_nagumo() -> Problem:
    """A neuron's potential v and its recovery w."""

    def f(t: Tensor, y: Tensor) -> Tensor:
        v, w = y.unbind()
        return torch.stack((v - v**3 / 3 - w + 0.5, (v + 0.7 - 0.8 * w) / 12.5))

    return Problem("fitzhugh_nagumo", f, (1.0, 1.0), (0.0, 100.0), f"FitzHugh 1961, Nagumo et al. 1962; {SCIML}")


def arenstorf() -> Problem:
    """A satellite's closed orbit around earth and moon, (x, y, x', y') in the frame that turns with them."""
    moon = 0.012277471
    earth = 1.0 - moon

    def f(t: Tensor, y: Tensor) -> Tensor:
        x1, x2, v1, v2 = y.unbind()
        d1 = ((x1 + moon) ** 2 + x2**2) ** 1.5
        d2 = ((x1 - earth) ** 2 + x2**2) ** 1.5
        a1 = x1 + 2 * v2 - earth * (x1 + moon) / d1 - moon * (x1 - earth) / d2
        a2 = x2 - 2 * v1 - earth * x2 / d1 - moon * x2 / d2
        return torch.stack((v1, v2, a1, a2))

    def jacobi(y: Tensor) -> Tensor:
        x1, x2, v1, v2 = y.unbind(-1)
        r1, r2 = torch.hypot(x1 + moon, x2), torch.hypot(x1 - earth, x2)
        return x1**2 + x2**2 + 2 * earth / r1 + 2 * moon / r2 - v1**2 - v2**2

    return Problem(
        "arenstorf",
        f,
        (0.994, 0.0, 0.0, -2.00158510637908252240537862224),
        (0.0, ARENSTORF_PERIOD),
        "Arenstorf 1963; Hairer, Norsett, Wanner, Solving ODEs I, (II.0.1), where the period is given",
        invariants={"Jacobi's integral": jacobi},
    )


def pleiades() -> Problem:
    """Seven stars in a plane, (x, y, x', y') of seven each, with close encounters."""
    mass = torch.arange(1.0, 8.0, dtype=torch.float64)

    def f(t: Tensor, y: Tensor) -> Tensor:
        place, velocity = y.view(4, 7).split(2)
        between = place[:, None, :] - place[:, :, None]  # from star i to star j
        distance = between.square().sum(0) + torch.eye(7, dtype=y.dtype, device=y.device)  # no star pulls itself
        acceleration = (between * mass.to(y) / distance**1.5).sum(-1)
        return torch.cat((velocity, acceleration)).flatten()

    x = (3.0, 3.0, -1.0, -3.0, 2.0, -2.0, 2.0)
    y = (3.0, -3.0, 2.0, 0.0, 0.0, -4.0, 4.0)
    vx = (0.0, 0.0, 0.0, 0.0, 0.0, 1.75, -1.5)
    vy = (0.0, 0.0, 0.0, -1.25, 1.0, 0.0, 0.0)
    source = "Hairer, Norsett, Wanner, Solving ODEs I, (II.10.3)"
    return Problem("pleiades", f, (*x, *y, *vx, *vy), (0.0, 3.0), source, plane=(0, 7))


def lorenz() -> Problem:
    """Convection after Lorenz: errors grow about as exp(0.9 t)."""

    def f(t: Tensor, y: Tensor) -> Tensor:
        a, b, c = y.unbind()
        return torch.stack((10.0 * (b - a), a * (28.0 - c) - b, a * b - 8.0 / 3.0 * c))

    return Problem(
        "lorenz", f, (1.0, 0.0, 0.0), (0.0, 10.0), "Lorenz 1963; Hairer, Norsett, Wanner, I.16", plane=(0, 2)
    )
