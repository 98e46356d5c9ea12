"""DETEST C5: Jupiter, Saturn, Uranus, Neptune and Pluto around the sun; astronomical units, 100 days, solar masses."""

from __future__ import annotations

import torch
from torch import Tensor

GRAVITY = 2.95912208286
SUN = 1.00000597682
MASSES = (0.954786104043e-3, 0.285583733151e-3, 0.437273164546e-4, 0.517759138449e-4, 0.277777777778e-5)

# fmt: off
PLANETS = (  # a place per planet, then a velocity per planet
    3.42947415189, 3.35386959711, 1.35494901715,
    6.64145542550, 5.97156957878, 2.18231499728,
    11.2630437207, 14.6952576794, 6.27960525067,
    -30.1552268759, 1.65699966404, 1.43785752721,
    -21.1238353380, 28.4465098142, 15.3882659679,
    -0.557160570446, 0.505696783289, 0.230578543901,
    -0.415570776342, 0.365682722812, 0.169143213293,
    -0.325325669158, 0.189706021964, 0.0877265322780,
    -0.0240476254170, -0.287659532608, -0.117219543175,
    -0.176860753121, -0.216393453025, -0.0148647893090,
)
# fmt: on


def planets_field(t: Tensor, y: Tensor) -> Tensor:
    """Heliocentric: each planet also falls with the sun towards the others."""
    place, velocity = y.view(2, 5, 3)
    mass = torch.tensor(MASSES, dtype=y.dtype, device=y.device)
    to_sun = place / place.square().sum(1, keepdim=True) ** 1.5
    between = place[None] - place[:, None]  # [i, j]: from planet i to planet j
    distance = between.square().sum(2) + torch.eye(5, dtype=y.dtype, device=y.device)
    pull = between / distance[..., None] ** 1.5 - to_sun[None]
    others = mass * (1 - torch.eye(5, dtype=y.dtype, device=y.device))
    acceleration = torch.einsum("ij,ijk->ik", others, pull) - (SUN + mass)[:, None] * to_sun
    return torch.cat((velocity, GRAVITY * acceleration)).flatten()
