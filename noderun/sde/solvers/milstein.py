"""Milstein's method without derivatives, for Ito and for Stratonovich equations."""

from __future__ import annotations

from torch import Tensor

from noderun.ode.solvers.field import Field
from noderun.ode.solvers.method import Step
from noderun.ode.solvers.times import stage_times
from noderun.sde.field import sde_field
from noderun.sde.solvers.method import SDEInfo, SDEMethod, straight


class Milstein(SDEMethod):
    """y1 = y + f h + g dW + 1/2 L (dW^2 - h), L = (g(y + g h) - g) / h, an approximation of (dg/dy) g.

    For Stratonovich equations dW^2 takes the place of dW^2 - h.
    """

    name, order = "milstein", 1
    info = SDEInfo(
        interpretations=("ito", "stratonovich"),
        noises=("diagonal", "scalar", "additive"),
        strong_orders=(None, 1.0, 1.0),
        source="Milstein 1974; Kloeden, Platen 1992, (10.3.1), 11.1",
        description="one evaluation of f and two of g per step; diagonal, scalar or additive noise",
    )

    def along(self, field: Field, t: float, y: Tensor, h: float, dw: Tensor) -> Step:
        own, (time,) = sde_field(field), stage_times(t, h, (0.0,), y, field.bounds)
        f, g = own.leaves(time, y)
        y1 = own.moved(y.add(f, alpha=h), g, dw)
        if own.noise.type != "additive":
            squares = dw * dw - h if own.interpretation == "ito" else dw * dw
            change = own.diffusion(time, y.add(g, alpha=h)) - g
            y1 = y1.addcmul(change, squares, value=0.5 / h)
        return Step(t, h, y, y1, None, straight(y, y1))


METHOD = Milstein()
