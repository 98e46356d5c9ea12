"""Neural flows: the solution of an ODE, instead of its right side, is a net (Bilos et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from noderun.models.encoders import BackwardRNN
from noderun.models.latent import Decoded, LatentCurve, small_net


class ContractiveNet(nn.Module):
    """g(t, z) of z's shape, with one hidden layer and a Lipschitz constant in z of at most 1."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.of_state = spectral_norm(nn.Linear(size, width, bias=False))
        self.of_time = nn.Linear(1, width)
        self.last = spectral_norm(nn.Linear(width, size))

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        change: Tensor = self.last((self.of_state(z) + self.of_time(t)).tanh())
        return change


class ResNetFlow(nn.Module):
    """F(t, z), the composition of z + tanh(a t) g(t, z) over ``layers`` contractive g: F(0, z) = z, and F(t, .) is
    invertible, so that no two paths meet (Bilos et al. 2021, section 3.1). t [..., 1] and z [..., size] broadcast."""

    def __init__(self, size: int, width: int, layers: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList(ContractiveNet(size, width) for _ in range(layers))
        self.rates = nn.Parameter(torch.ones(layers, size))  # a

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        for net, rate in zip(self.nets, self.rates, strict=True):
            z = z + (rate * t).tanh() * net(t, z)
        return z


class NeuralFlow(LatentCurve):
    """z(0) ~ N(0, I), z(t) = F(t, z(0)), x(t) ~ N(g(z(t)), noise^2): a latent ODE without a solve."""

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        *,
        latent: int = 8,
        hidden: int = 64,
        width: int = 64,
        layers: int = 4,
        decoder: int = 64,
        noise: float = 0.1,
        samples: int = 1,
        kl_warmup: int = 0,
        label_weight: float = 1.0,
    ) -> None:
        super().__init__(latent, noise, samples, kl_warmup, label_weight)
        channels = shape[-1]
        self.encoder = BackwardRNN(channels, hidden)
        self.posterior = nn.Linear(hidden, 2 * latent)
        self.flow = ResNetFlow(latent, width, layers)
        self.decoder = small_net(latent, decoder, channels)
        self.head = nn.Linear(latent, outputs) if outputs else None
        self.log_rate = None

    def decode(self, z0: Tensor, times: Tensor) -> Decoded:
        """Each series at its own times: no solve goes over those of the others."""
        z = self.flow(times.unsqueeze(-1), z0.unsqueeze(2))
        return Decoded(z, self.decoder(z), distinct_times=0)
