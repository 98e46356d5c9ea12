"""Conservation laws on a periodic interval by Fourier's method in space and exponential time differencing in time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CONTOUR = 32  # points on the circle over which a coefficient of ETDRK4 is averaged
COURANT = 0.5  # |u| k h of a step at the largest wavenumber k that u^2 keeps: its error is then about float32's


class ConservationLaw:
    """u_t + (u^2 / 2)_x = second u_xx + fourth u_xxxx on [0, length), at ``points`` equal distances, in float64.

    u [..., points] is periodic. u^2 is dealiased by the 2/3 rule (Orszag 1971): wavenumbers from points / 3 on are left
    out of it. The mean of u does not change.
    """

    def __init__(self, points: int, length: float, second: float, fourth: float = 0.0) -> None:
        self.points, self.length = points, length
        number = torch.arange(points // 2 + 1, dtype=torch.float64)
        k = 2 * math.pi / length * number
        self.linear = -second * k**2 + fourth * k**4
        self.kept = 3 * number < points
        self.half_derivative = -0.5j * k * self.kept

    @property
    def largest_wavenumber(self) -> float:
        """Of those that u^2 keeps."""
        return 2 * math.pi / self.length * (math.ceil(self.points / 3) - 1)

    def nonlinear(self, v: Tensor) -> Tensor:
        """-(u^2 / 2)_x of u with the coefficients v, as coefficients."""
        u = torch.fft.irfft(v * self.kept.to(v.device), self.points)
        return self.half_derivative.to(v) * torch.fft.rfft(u * u)

    def rate(self, u: Tensor) -> Tensor:
        """u_t of u [..., points], of its dtype."""
        v = torch.fft.rfft(u)
        return torch.fft.irfft(self.linear.to(u) * v + self.nonlinear(v), self.points)

    def states(self, start: Tensor, dt: float, steps: int, substeps: int | None = None) -> Tensor:
        """u [N, steps + 1, points] at the times 0, dt, 2 dt, ... from ``start`` [N, points]; in float64.

        Without ``substeps`` each dt has as many steps as COURANT asks for, at the largest value of ``start``.
        """
        if substeps is None:
            substeps = math.ceil(dt * float(start.abs().max()) * self.largest_wavenumber / COURANT)
        step, v = ETDRK4(self, dt / substeps), torch.fft.rfft(start.double())
        found = [v]
        for _ in range(steps):
            for _ in range(substeps):
                v = step(v)
            found.append(v)
        return torch.fft.irfft(torch.stack(found, dim=1), self.points)


class ETDRK4:
    """A step of size h of dv/dt = c v + F(v), order 4 (Cox and Matthews 2002, equations 26 to 29).

    Their coefficients are quotients that cancel for small c h; here each is the mean over a circle around c h, which
    Cauchy's theorem allows (Kassam and Trefethen 2005, section 3).
    """

    def __init__(self, law: ConservationLaw, h: float) -> None:
        self.nonlinear = law.nonlinear
        z = h * law.linear.unsqueeze(1)
        angle = math.pi * (torch.arange(CONTOUR, dtype=torch.float64) + 0.5) / CONTOUR  # the upper half: c is real
        r = z + torch.polar(torch.ones_like(angle), angle)

        def mean(values: Tensor) -> Tensor:
            return h * values.mean(1).real

        self.whole, self.half = z[:, 0].exp(), (z[:, 0] / 2).exp()
        self.stage = mean(((r / 2).exp() - 1) / r)
        self.first = mean((-4 - r + r.exp() * (4 - 3 * r + r**2)) / r**3)
        self.middle = mean((2 + r + r.exp() * (-2 + r)) / r**3)
        self.last = mean((-4 - 3 * r - r**2 + r.exp() * (4 - r)) / r**3)

    def __call__(self, v: Tensor) -> Tensor:
        f = self.nonlinear(v)
        a = self.half * v + self.stage * f  # 26
        fa = self.nonlinear(a)
        b = self.half * v + self.stage * fa  # 27
        fb = self.nonlinear(b)
        c = self.half * a + self.stage * (2 * fb - f)  # 28
        fc = self.nonlinear(c)
        return self.whole * v + self.first * f + 2 * self.middle * (fa + fb) + self.last * fc  # 29
