"""The two equations of a latent SDE, with one diffusion: the prior, and the posterior that is steered by u.

    prior        dz = h dt + g dW                 h the drift, g = c s the diffusion of each component of z
    posterior    dz = (h + g u) dt + g dW         KL(posterior || prior) = E int 1/2 |u|^2 dt

Li et al. 2020, section 5, where u is (f - h) / g of the posterior drift f. The forms of h and g:

    form     h           c    s
    free     p(z)        1    s_i(z_i), a net per component     Li et al. 2020
    lsde     p(z)        1    s_i(t)     Langevin-type          Oh et al. 2024
    lnsde    p(t, z)     z    s_i(t)     linear noise           Oh et al. 2024
    gsde     z p(t, z)   z    s_i(t)     geometric              Oh et al. 2024
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from noderun.dynamics.activations import activation

FORMS = {"free": "diagonal", "lsde": "additive", "lnsde": "diagonal", "gsde": "diagonal"}  # with their type of noise
MULTIPLICATIVE = ("lnsde", "gsde")
START = -3.0  # the logit of s at first, about 0.05: a large diffusion hides the drift, and its noise the gradient


class Net(nn.Module):
    """A fully connected net [..., inputs] -> [..., outputs] beside a linear map: an identity is learned at once."""

    def __init__(self, inputs: int, width: int, layers: int, outputs: int, name: str) -> None:
        super().__init__()
        sizes = [inputs, *[width] * (layers - 1), outputs]
        self.layers: Sequence[nn.Linear] = nn.ModuleList(map(nn.Linear, sizes, sizes[1:]))  # type: ignore[assignment]
        self.direct = nn.Linear(inputs, outputs, bias=False)
        self.activation = activation(name)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x
        for layer in self.layers[:-1]:
            hidden = self.activation(layer(hidden))
        outputs: Tensor = self.layers[-1](hidden) + self.direct(x)
        return outputs


class ComponentNets(nn.Module):
    """s_i(z_i) in (0, 1), a net of one hidden layer for each component, as in the code of Li et al. (2020)."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(size, width)), nn.Parameter(torch.randn(size, width))
        self.last = nn.Parameter(torch.randn(size, width) / width**0.5)
        self.last_bias = nn.Parameter(torch.full((size,), START))

    def forward(self, z: Tensor) -> Tensor:
        hidden = nn.functional.softplus(torch.addcmul(self.bias, z.unsqueeze(-1), self.weight))
        return torch.sigmoid((hidden * self.last).sum(-1) + self.last_bias)

    def slope(self, z: Tensor) -> Tensor:
        """ds_i / dz_i."""
        s, hidden = self(z), torch.sigmoid(torch.addcmul(self.bias, z.unsqueeze(-1), self.weight))
        return s * (1 - s) * (hidden * self.weight * self.last).sum(-1)


class LatentEquation(nn.Module):
    """Drift and diffusion of z [..., L], the prior's; with a context, the posterior's of (z, l), dl = 1/2 |u|^2 dt.

    t is a number [], or [..., 1]. ``steering(equation, t, z, p, s, *context)`` is the posterior's u.
    """

    def __init__(self, size: int, form: str, width: int, layers: int, name: str, steering: nn.Module) -> None:
        super().__init__()
        self.size, self.form = size, form
        self.net = Net(size + (form in MULTIPLICATIVE), width, layers, size, name)
        self.scale: nn.Module = ComponentNets(size, max(width // 4, 1))
        if form != "free":
            self.scale = Net(1, width, 2, size, name)
            nn.init.constant_(self.scale.layers[-1].bias, START)
        self.steering = steering

    def relative_drift(self, t: Tensor, z: Tensor) -> Tensor:
        """p."""
        found: Tensor = self.net(with_time(t, z) if self.form in MULTIPLICATIVE else z)
        return found

    def prior_drift(self, t: Tensor, z: Tensor) -> Tensor:
        """h."""
        return self.drift_by(z, self.relative_drift(t, z))

    def drift_by(self, z: Tensor, p: Tensor) -> Tensor:
        """h = z p of gsde, else p."""
        return z * p if self.form == "gsde" else p

    def relative_diffusion(self, t: Tensor, z: Tensor) -> Tensor:
        """s."""
        if self.form == "free":
            return self.scale(z)
        return torch.sigmoid(self.scale(t.to(z).reshape(t.shape or (1,)))).expand_as(z)

    def prior_diffusion(self, t: Tensor, z: Tensor) -> Tensor:
        """g."""
        return self.carried(z, self.relative_diffusion(t, z))

    def carried(self, z: Tensor, s: Tensor) -> Tensor:
        """g = c s."""
        return z * s if self.form in MULTIPLICATIVE else s

    def steered(self, t: Tensor, z: Tensor, *context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """p, s and u."""
        p, s = self.relative_drift(t, z), self.relative_diffusion(t, z)
        return p, s, self.steering(self, t, z, p, s, *context)

    def drift(self, t: Tensor, y: Tensor, *context: Tensor) -> Tensor:
        if not context:
            return self.prior_drift(t, y)
        z = y[:, : self.size]
        p, s, u = self.steered(t, z, *context)
        drift = torch.addcmul(self.drift_by(z, p), self.carried(z, s), u)
        return torch.cat([drift, 0.5 * u.square().sum(1, keepdim=True)], dim=1)

    def diffusion(self, t: Tensor, y: Tensor, *context: Tensor) -> Tensor:
        g = self.prior_diffusion(t, y[:, : self.size])
        return torch.cat([g, torch.zeros_like(g[:, :1])], dim=1) if context else g


def with_time(t: Tensor, *parts: Tensor) -> Tensor:
    """[t, *parts] along the last dimension; t is [] or [..., 1]."""
    return torch.cat([t.to(parts[0]).expand(*parts[0].shape[:-1], 1), *parts], dim=-1)
