"""Problems with a solution in closed form."""

from __future__ import annotations

import math

import torch
from scipy.special import ellipj, ellipk
from torch import Tensor

from noderun.lab.problems.problem import Exact, Problem


def exponential(rate: float = -1.0) -> Problem:
    """y' = rate y."""
    return Problem(
        "exponential",
        lambda t, y: rate * y,
        y0=(1.0,),
        span=(0.0, 5.0),
        source="Dahlquist 1963, the test equation; Hairer, Norsett, Wanner, Solving ODEs II, (IV.2.1)",
        exact=lambda t: (math.exp(rate * t),),
    )


def harmonic_oscillator(frequency: float = 1.0) -> Problem:
    """q' = p, p' = -frequency^2 q."""
    w = frequency

    def energy(y: Tensor) -> Tensor:
        return (y[..., 1] ** 2 + (w * y[..., 0]) ** 2) / 2

    return Problem(
        "harmonic_oscillator",
        lambda t, y: torch.stack((y[1], -w * w * y[0])),
        y0=(1.0, 0.0),
        span=(0.0, 10.0),
        source="Hairer, Lubich, Wanner, Geometric Numerical Integration, I.5",
        exact=lambda t: (math.cos(w * t), -w * math.sin(w * t)),
        invariants={"energy": energy},
        separable=True,
    )


def nonautonomous_linear() -> Problem:
    """y' = t J y with J a rotation by a right angle: wrong nodes c_i of a method show here and nowhere else."""
    return Problem(
        "nonautonomous_linear",
        lambda t, y: t * torch.stack((y[1], -y[0])),
        y0=(1.0, 0.0),
        span=(0.0, 3.0),
        source="a chirp: the solution turns by the angle t^2 / 2",
        exact=lambda t: (math.cos(t * t / 2), -math.sin(t * t / 2)),
        invariants={"radius": lambda y: y.square().sum(-1)},
        separable=True,  # H = t (p^2 + q^2) / 2
    )


def pendulum(angle: float = 2.0) -> Problem:
    """q' = p, p' = -sin q, let go at ``angle`` (radians)."""
    k = math.sin(angle / 2)
    quarter = float(ellipk(k * k))

    def exact(t: float) -> tuple[float, float]:
        sn, cn, _, _ = ellipj(quarter - t, k * k)
        return 2 * math.asin(k * sn), -2 * k * float(cn)

    return Problem(
        "pendulum",
        lambda t, y: torch.stack((y[1], -torch.sin(y[0]))),
        y0=(angle, 0.0),
        span=(0.0, 10.0),
        source="Hairer, Lubich, Wanner, Geometric Numerical Integration, (I.1.13); exact by elliptic functions",
        exact=exact,
        invariants={"energy": lambda y: y[..., 1] ** 2 / 2 - torch.cos(y[..., 0])},
        separable=True,
    )


def kepler(eccentricity: float = 0.6) -> Problem:
    """A planet (q, p) in the plane around a sun of mass 1, from the perihelion; one period is 2 pi."""
    return Problem(
        "kepler",
        kepler_field,
        y0=(1 - eccentricity, 0.0, 0.0, math.sqrt((1 + eccentricity) / (1 - eccentricity))),
        span=(0.0, 6 * math.pi),
        source="Hairer, Lubich, Wanner, Geometric Numerical Integration, (I.2.2)",
        exact=kepler_orbit(eccentricity),
        invariants={"energy": kepler_energy, "angular momentum": angular_momentum},
        separable=True,
    )


def kepler_field(t: Tensor, y: Tensor) -> Tensor:
    q, p = y.chunk(2)
    return torch.cat((p, -q / q.square().sum() ** 1.5))


def kepler_energy(y: Tensor) -> Tensor:
    q, p = y.chunk(2, dim=-1)
    return p.square().sum(-1) / 2 - 1 / q.square().sum(-1).sqrt()


def angular_momentum(y: Tensor) -> Tensor:
    return y[..., 0] * y[..., 3] - y[..., 1] * y[..., 2]


def kepler_orbit(e: float) -> Exact:
    """The orbit by the eccentric anomaly u of Kepler's equation u - e sin u = t."""

    def orbit(t: float) -> tuple[float, float, float, float]:
        u = t + e * math.sin(t)
        for _ in range(100):
            step = (u - e * math.sin(u) - t) / (1 - e * math.cos(u))
            u -= step
            if abs(step) < 1e-15 * max(1.0, abs(u)):
                break
        r, b = 1 - e * math.cos(u), math.sqrt(1 - e * e)
        return math.cos(u) - e, b * math.sin(u), -math.sin(u) / r, b * math.cos(u) / r

    return orbit
