"""Generated series of mechanical systems, in closed form or to rounding, by a fixed generator."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noderun.data.curves import noisy
from noderun.data.dataset import Dataset
from noderun.data.points import require_none
from noderun.data.series import Records, series_dataset
from noderun.data.system import System
from noderun.data.targets import Series

GRAVITY = 9.81  # m/s^2


def of_system(dataset: Dataset, system: System) -> Dataset:
    """The set with what is known of its system, if its task asks for the system's states."""
    if not isinstance(dataset.target, Series):
        return dataset
    return replace(dataset, target=replace(dataset.target, system=system))


def two_body(
    root: Path,
    augment: bool = False,
    *,
    examples: int = 1000,
    points: int = 50,
    span: float = 20.0,
    noise: float = 0.05,
    task: str | None = None,
    **asked: Any,
) -> Dataset:
    """Two equal masses around their center (Greydanus et al. 2019, section 5): state (x1, y1, x2, y2, and momenta).

    Masses and the constant of gravity are 1; nothing is noisy: ``noise`` is by how much the speeds at the start
    differ from those of a circular orbit.
    """
    require_none("two_body", augment)
    times = torch.linspace(0, span, points)

    def draw(count: int, seed: int) -> Records:
        generator = torch.Generator().manual_seed(seed)
        position = 0.5 + torch.rand(count, 2, generator=generator, dtype=torch.float64)
        radius = position.norm(dim=1, keepdim=True)
        circular = torch.stack([-position[:, 1], position[:, 0]], dim=1) / (2 * radius**1.5)
        speed = circular * (1 + noise * torch.randn(count, 1, generator=generator, dtype=torch.float64))
        where, velocity = kepler(position, speed, times.double(), mu=0.25)
        return noisy(torch.cat([where, -where, velocity, -velocity], dim=2).float(), times, 0.0, generator)

    dataset = series_dataset(
        "two_body", draw(examples, 0), draw(max(examples // 5, 2), 1), task or "interpolate", **asked
    )
    return of_system(dataset, System(two_body_field, two_body_energy))


def two_body_field(y: Tensor) -> Tensor:
    """dq = p, dp1 = -(q1 - q2) / |q1 - q2|^3 = -dp2."""
    first, second, momenta = y[..., :2], y[..., 2:4], y[..., 4:]
    between = first - second
    force = -between / between.norm(dim=-1, keepdim=True) ** 3
    return torch.cat([momenta, force, -force], dim=-1)


def two_body_energy(y: Tensor) -> Tensor:
    return y[..., 4:].square().sum(-1) / 2 - 1 / (y[..., :2] - y[..., 2:4]).norm(dim=-1)


def kepler(position: Tensor, velocity: Tensor, times: Tensor, mu: float) -> tuple[Tensor, Tensor]:
    """Positions and velocities [N, T, 2] of x'' = -mu x / |x|^3 on ellipses, from those at time 0 [N, 2].

    By Lagrange's coefficients x = f x0 + g v0 with Kepler's equation in the change of the eccentric anomaly, solved by
    Newton's method (Bate, Mueller, White, Fundamentals of Astrodynamics, section 4.4).
    """
    r0 = position.norm(dim=1, keepdim=True)
    a = 1 / (2 / r0 - velocity.square().sum(1, keepdim=True) / mu)  # the semi-major axis
    sigma = (position * velocity).sum(1, keepdim=True) / math.sqrt(mu)
    mean = torch.sqrt(mu / a**3) * times  # change of the mean anomaly [N, T]
    change = mean.clone()
    for _ in range(50):
        sine, cosine = change.sin(), change.cos()
        error = change - (1 - r0 / a) * sine + sigma / a.sqrt() * (1 - cosine) - mean
        change = change - error / (1 - (1 - r0 / a) * cosine + sigma / a.sqrt() * sine)
    sine, cosine = change.sin(), change.cos()
    r = a + (r0 - a) * cosine + sigma * a.sqrt() * sine
    f, g = 1 - a / r0 * (1 - cosine), times - torch.sqrt(a**3 / mu) * (change - sine)
    df, dg = -torch.sqrt(mu * a) / (r * r0) * sine, 1 - a / r * (1 - cosine)

    def combined(one: Tensor, other: Tensor) -> Tensor:
        return one.unsqueeze(2) * position.unsqueeze(1) + other.unsqueeze(2) * velocity.unsqueeze(1)

    return combined(f, g), combined(df, dg)


def bouncing_ball(
    root: Path,
    augment: bool = False,
    *,
    examples: int = 32,
    points: int = 60,
    span: float = 2.5,
    noise: float = 0.02,
    task: str | None = None,
    **asked: Any,
) -> Dataset:
    """Heights of balls dropped at rest, each with a floor and a restitution of its own, seen at random times.

    The test asks for the same balls' heights on a grid of times, without noise.
    """
    require_none("bouncing_ball", augment)
    generator = torch.Generator().manual_seed(0)
    height, floor, restitution = (
        low + (high - low) * torch.rand(examples, generator=generator)
        for low, high in ((1.5, 2.5), (-0.5, 0.5), (0.6, 0.9))
    )
    # one time at random in the middle of each of as many intervals, so that no two are close; the drop is seen
    times = span / points * (torch.arange(points) + 0.1 + 0.8 * torch.rand(examples, points, generator=generator))
    times[:, 0] = 0.0

    def heights(times: Tensor) -> Tensor:
        return bounced((height - floor).unsqueeze(1), restitution.unsqueeze(1), times) + floor.unsqueeze(1)

    grid = torch.linspace(0, span, 126).expand(examples, -1)
    train, test = noisy(heights(times).unsqueeze(2), times, noise, generator), heights(grid).unsqueeze(2)
    known = System(parameters={"floor": floor, "restitution": restitution})
    return of_system(
        series_dataset("bouncing_ball", train, noisy(test, grid[0], 0.0, generator), task or "interpolate", **asked),
        known,
    )


def bounced(height: Tensor, restitution: Tensor, times: Tensor) -> Tensor:
    """The height over the floor [N, T] of balls [N, 1] dropped at rest at time 0."""
    fall = torch.sqrt(2 * height / GRAVITY)
    at, speed, found = fall, restitution * GRAVITY * fall, height - GRAVITY / 2 * times**2
    while (at < times.max()).any() and (speed > 1e-6).any():
        since = times - at
        found = torch.where(since >= 0, speed * since - GRAVITY / 2 * since**2, found)
        at, speed = at + 2 * speed / GRAVITY, restitution * speed
    return found.clamp(min=0)


def cubic_spiral(
    root: Path,
    augment: bool = False,
    *,
    points: int = 1000,
    window: int = 10,
    noise: float = 0.0,
    task: str | None = None,
    **asked: Any,
) -> Dataset:
    """One trajectory of dy/dt = A y^3 from (2, 0) over 25 units of time, torchdiffeq's first example.

    A training series is a window of it; the test is the whole trajectory from its start.
    """
    require_none("cubic_spiral", augment)
    matrix = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])
    times, generator = torch.linspace(0, 25, points), torch.Generator().manual_seed(0)
    truth = runge_kutta(lambda y: y**3 @ matrix.T.double(), torch.tensor([[2.0, 0.0]]), times)[0]
    whole = noisy(truth.unsqueeze(0), times, noise, generator)
    first = torch.arange(points - window + 1).unsqueeze(1) + torch.arange(window)
    parts = Records(
        whole.values[0, first], times[:window].expand(first.shape), whole.mask[0, first], truth=truth[first]
    )
    dataset = series_dataset("cubic_spiral", parts, whole, task or "interpolate", **asked)
    return of_system(dataset, System(lambda y: y**3 @ matrix.to(y).T))


def runge_kutta(field: Any, y0: Tensor, times: Tensor, steps: int = 4) -> Tensor:
    """y [N, T, D] by the classical method in double precision, ``steps`` of them between neighboring times."""
    y, found = y0.double(), [y0.double()]
    for start, end in zip(times.double().tolist()[:-1], times.double().tolist()[1:], strict=True):
        h = (end - start) / steps
        for _ in range(steps):
            k1 = field(y)
            k2 = field(y + h / 2 * k1)
            k3 = field(y + h / 2 * k2)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + field(y + h * k3))
        found.append(y)
    return torch.stack(found, dim=1).float()
