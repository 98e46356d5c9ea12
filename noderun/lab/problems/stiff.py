"""Stiff problems, which explicit methods cannot afford."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noderun.lab.problems.problem import Problem

TEST_SET = "Mazzia, Magherini 2008, Test Set for IVP Solvers 2.4"


def van_der_pol(mu: float = 5.0) -> Problem:
    """y'' = mu (1 - y^2) y' - y; stiff for large mu, mild at the default."""

    def f(t: Tensor, y: Tensor) -> Tensor:
        return torch.stack((y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]))

    end = max(20.0, 2 * mu)  # a little more than one period for large mu
    source = f"van der Pol 1926; Hairer, Wanner, Solving ODEs II, (IV.1.5'); {TEST_SET}"
    return Problem("van_der_pol", f, (2.0, 0.0), (0.0, end), source, stiff=mu > 30)


def rober() -> Problem:
    """Robertson's three reactions, with rates eleven orders of magnitude apart."""

    def f(t: Tensor, y: Tensor) -> Tensor:
        a, b, c = y.unbind()
        slow, fast, fastest = 0.04 * a, 1e4 * b * c, 3e7 * b * b
        return torch.stack((fast - slow, slow - fast - fastest, fastest))

    source = f"Robertson 1966; Hairer, Wanner, Solving ODEs II, (IV.1.4); {TEST_SET}"
    mass = {"mass": lambda y: y.sum(-1)}
    return Problem("rober", f, (1.0, 0.0, 0.0), (0.0, 1e5), source, invariants=mass, stiff=True)


def hires() -> Problem:
    """Eight reactions of a plant's high irradiance response to light."""

    def f(t: Tensor, y: Tensor) -> Tensor:
        a, b, c, d, e, g, h, i = y.unbind()
        bound = 280.0 * g * i
        return torch.stack((
            -1.71 * a + 0.43 * b + 8.32 * c + 0.0007,
            1.71 * a - 8.75 * b,
            -10.03 * c + 0.43 * d + 0.035 * e,
            8.32 * b + 1.71 * c - 1.12 * d,
            -1.745 * e + 0.43 * g + 0.43 * h,
            -bound + 0.69 * d + 1.71 * e - 0.43 * g + 0.69 * h,
            bound - 1.81 * h,
            -bound + 1.81 * h,
        ))  # fmt: skip

    y0 = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0057)
    source = f"Schaefer 1975; Hairer, Wanner, Solving ODEs II, (IV.10.4); {TEST_SET}"
    return Problem("hires", f, y0, (0.0, 321.8122), source, stiff=True)


def orego() -> Problem:
    """The Oregonator: a limit cycle of the Belusov-Zhabotinskii reaction over six orders of magnitude."""

    def f(t: Tensor, y: Tensor) -> Tensor:
        a, b, c = y.unbind()
        first = 77.27 * (b + a * (1 - 8.375e-6 * a - b))
        return torch.stack((first, (c - (1 + a) * b) / 77.27, 0.161 * (a - c)))

    source = f"Field, Noyes 1974; Hairer, Wanner, Solving ODEs II, (IV.10.5); {TEST_SET}"
    return Problem("orego", f, (1.0, 2.0, 3.0), (0.0, 360.0), source, stiff=True)


def heat(points: int = 32) -> Problem:
    """u_t = u_xx, u(t, 0) = u(t, 1) = 0, by lines on ``points`` inner points; eigenvalues to -4 (points + 1)^2."""
    dx = 1 / (points + 1)
    modes = {1: 1.0, 3: 0.5}
    rates = {k: -4 / dx**2 * math.sin(k * math.pi * dx / 2) ** 2 for k in modes}

    def exact(t: float) -> tuple[float, ...]:
        shares = {k: a * math.exp(rates[k] * t) for k, a in modes.items()}
        return tuple(sum(a * math.sin(k * math.pi * i * dx) for k, a in shares.items()) for i in range(1, points + 1))

    def f(t: Tensor, y: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(y, (1, 1))
        return (padded[2:] - 2 * y + padded[:-2]) / dx**2

    source = "method of lines; Hairer, Wanner, Solving ODEs II, IV.2; exact for the difference equations"
    return Problem("heat", f, exact(0.0), (0.0, 0.2), source, exact=exact, stiff=True)
