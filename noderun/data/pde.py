"""Roll-outs of partial differential equations in one periodic dimension, by the protocol of APEBench (Koehler et al.
2024): 50 training trajectories of 50 steps and 30 test trajectories of 200, on 160 points."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.files import DataError
from noderun.data.points import require_none
from noderun.data.spectral import ConservationLaw
from noderun.data.system import System
from noderun.data.targets import Series

WAVES = 5  # of the first states: a Fourier series with normal coefficients up to this wavenumber
TESTED = 30  # trajectories
WARM_UP = 500  # steps after which a trajectory of Kuramoto and Sivashinsky's is on the attractor
PECLET = 2.0  # largest |u| dx / viscosity whose fronts the grid resolves
DAMPED = 2.0  # wavenumber from which Kuramoto and Sivashinsky's waves are damped out


def burgers(
    root: Path,
    augment: bool = False,
    *,
    points: int = 160,
    viscosity: float = 0.003125,
    dt: float = 0.009375,
    examples: int = 50,
    steps: int = 50,
    test_steps: int = 200,
    unroll: int = 1,
    task: str | None = None,
) -> Dataset:
    """u_t + u u_x = viscosity u_xx on [0, 1), from smooth waves of height 1.

    The defaults are APEBench's diffusion and convection difficulties of 1.5 on 160 points.
    """
    require_none("burgers", augment)
    check_burgers(points=points, viscosity=viscosity, steps=steps, unroll=unroll)
    law = ConservationLaw(points, 1.0, viscosity)

    def draw(count: int, steps: int, seed: int) -> Tensor:
        return law.states(waves(count, points, seed), dt, steps)

    return rolled_out("burgers", law, dt, draw(examples, steps, 0), draw(TESTED, test_steps, 1), unroll)


def kuramoto_sivashinsky(
    root: Path,
    augment: bool = False,
    *,
    points: int = 160,
    length: float = 320 / 3,
    dt: float = 4 / 9,
    examples: int = 50,
    steps: int = 50,
    test_steps: int = 200,
    unroll: int = 1,
    task: str | None = None,
) -> Dataset:
    """u_t + u u_x + u_xx + u_xxxx = 0 on [0, length), on its attractor.

    The defaults are APEBench's difficulties of its conservative form on 160 points: convection 1, diffusion -2,
    hyper-diffusion -18; its u is 2/3 of this one.
    """
    require_none("kuramoto_sivashinsky", augment)
    check_kuramoto_sivashinsky(points=points, length=length, steps=steps, unroll=unroll)
    law = ConservationLaw(points, length, -1.0, -1.0)

    def draw(count: int, steps: int, seed: int) -> Tensor:
        return law.states(law.states(waves(count, points, seed), dt, WARM_UP)[:, -1], dt, steps)

    return rolled_out("kuramoto_sivashinsky", law, dt, draw(examples, steps, 0), draw(TESTED, test_steps, 1), unroll)


def check_burgers(*, points: int, viscosity: float, steps: int, unroll: int, **others: object) -> None:
    """DataError for settings that have no meaning together."""
    check_unroll(unroll, steps)
    needed = math.ceil(1 / (PECLET * viscosity))
    if points < needed:
        least = math.ceil(1e6 / (PECLET * points)) / 1e6
        raise DataError(
            f"data.viscosity={viscosity:g} makes fronts too steep for data.points={points}: give at least {needed} "
            f"points, or data.viscosity={least:g} (a Peclet number |u| dx / viscosity of {PECLET:g})"
        )


def check_kuramoto_sivashinsky(*, points: int, length: float, steps: int, unroll: int, **others: object) -> None:
    """DataError for settings that have no meaning together."""
    check_unroll(unroll, steps)
    if length <= 2 * math.pi:
        raise DataError(f"data.length={length:g} has no wave that grows: give more than 2 pi, for instance 22")
    needed = math.ceil(3 * DAMPED * length / (2 * math.pi))
    if points < needed:
        raise DataError(f"data.length={length:g} needs data.points of at least {needed}, not {points}")


def check_unroll(unroll: int, steps: int) -> None:
    if unroll > steps:
        raise DataError(f"data.unroll={unroll} is longer than a training trajectory: give at most data.steps={steps}")


def waves(count: int, points: int, seed: int) -> Tensor:
    """[count, points]: Fourier series without a mean, divided by their largest value."""
    generator = torch.Generator().manual_seed(seed)
    sine, cosine = torch.randn(2, count, WAVES, 1, generator=generator, dtype=torch.float64)
    wave = torch.arange(1, WAVES + 1, dtype=torch.float64).unsqueeze(1)
    angle = 2 * math.pi / points * wave * torch.arange(points)
    u = (sine * angle.sin() + cosine * angle.cos()).sum(1)
    return u / u.abs().amax(1, keepdim=True)


def rolled_out(name: str, law: ConservationLaw, dt: float, train: Tensor, test: Tensor, unroll: int) -> Dataset:
    """The set of trajectories [N, steps + 1, points]: a training example is a window of ``unroll`` steps, a test
    example a whole trajectory; given is the first state. Times count steps."""
    parts = train.unfold(1, unroll + 1, 1).permute(0, 1, 3, 2).flatten(0, 1)
    target = Series(law.points, system=System(field=lambda u: dt * law.rate(u)))
    return Dataset(name, (1, law.points), target, from_first(parts), from_first(test))


def from_first(states: Tensor) -> Batch:
    """[N, S + 1, points] as a batch that is given the first state and asked for the S others."""
    states = states.float()
    times = torch.arange(states.shape[1], dtype=torch.float32).expand(len(states), -1)
    return Batch(states[:, :1], states[:, 1:], times[:, :1], target_times=times[:, 1:])
