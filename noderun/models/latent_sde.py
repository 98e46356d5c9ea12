"""The latent SDE: a variational autoencoder of series whose latent path is random (Li et al. 2020, section 5)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from noderun import noise
from noderun.data import DataError, Dataset
from noderun.models.block import SolveBlock
from noderun.models.encoders import ContextGRU
from noderun.models.latent import Decoded, LatentSeries, Posterior, of_each, small_net
from noderun.models.latent_equation import FORMS, LatentEquation
from noderun.models.marginal_paths import marginal_paths
from noderun.models.steering import ContextDrift, Marginals
from noderun.sde import BrownianPath, SDESolution
from noderun.sde.configured import ConfiguredSDESolve


class LatentSDE(LatentSeries):
    """z(0) ~ N(m, s^2), dz = h dt + g dW, x(t) ~ N(decoder(z(t)), noise^2); posterior: dz = (h + g u) dt + g dW.

    ``posterior`` says what u is: "drift", a net of z and the context (Li et al. 2020), or "marginals", which follows
    from normal marginals of z(t), also a net of the context (Bartosh et al. 2025). Paths start at time 0. Its answers
    are means over the draws.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        solve: ConfiguredSDESolve,
        *,
        latent: int = 4,
        form: str = "free",
        posterior: str = "drift",
        interpretation: str = "ito",
        hidden: int = 64,
        width: int = 64,
        layers: int = 3,
        activation: str = "silu",
        decoder: int = 0,
        noise: float = 0.01,
        samples: int = 1,
        kl_warmup: int = 0,
        label_weight: float = 1.0,
    ) -> None:
        super().__init__(latent, noise, samples, kl_warmup, label_weight)
        self.log_rate = None
        self.encoder = ContextGRU(shape[-1], hidden, both=posterior == "marginals")
        steering: ContextDrift | Marginals
        if posterior == "marginals":
            steering = Marginals(latent, self.encoder.size, width, layers, activation, interpretation)
        else:
            steering = ContextDrift(latent, self.encoder.size, width, layers, activation)
        self.steering = steering
        self.equation = LatentEquation(latent, form, width, layers, activation, steering)
        self.block = SolveBlock(self.equation, replace(solve, noise=FORMS[form], interpretation=interpretation))
        self.decoder = small_net(latent, decoder, shape[-1])
        self.head = nn.Linear(latent, outputs) if outputs else None
        self.first_mean, self.first_log_std = nn.Parameter(torch.zeros(latent)), nn.Parameter(torch.zeros(latent))

    def prepare_for(self, dataset: Dataset) -> None:
        """Raise DataError for series that begin before time 0, or never leave it."""
        for split, batch in dataset.splits.items():
            times = torch.cat([part.flatten() for part in (batch.times, batch.target_times) if part is not None])
            earliest = float(times.min())
            if not times.any():
                raise DataError(f"{dataset.name}, {split}: all times are 0, where the path of a latent SDE begins")
            if earliest < 0:
                raise DataError(
                    f"{dataset.name}, {split}: a series begins at t = {earliest:g}, and the path of a latent SDE at 0: "
                    "count times from the first"
                )

    def prior(self) -> tuple[Tensor, Tensor]:
        return self.first_mean, self.first_log_std.exp()

    def infer(self, inputs: Tensor, times: Tensor, mask: Tensor | None) -> Posterior:
        context = self.steering.context(*self.encoder(inputs, times, mask))
        return Posterior(*self.steering.start(*context), context)

    def paths(self, posterior: Posterior, epsilon: Tensor, times: Tensor, index: Tensor | None = None) -> Decoded:
        """By one solve from time 0 over all distinct times of [B, S].

        In training each call draws new paths; in a test they are a function of the series' ``index``.
        """
        draws, count = epsilon.shape[:2]
        ts, place = torch.unique(times, return_inverse=True)
        start = posterior.start(epsilon).flatten(0, 1)
        context = tuple(part.expand(draws, *part.shape).flatten(0, 1) for part in posterior.context)
        index = torch.arange(count, device=ts.device) if index is None else index
        number = index * draws + torch.arange(draws, device=ts.device).unsqueeze(1)  # [K, B]
        y0 = torch.cat([start, start.new_zeros(len(start), 1)], dim=1)
        if not self.training and isinstance(self.steering, Marginals):
            return self.by_marginals(start, number.flatten(), context, ts, place, draws)
        if not self.training:
            return self.weighed(self.solved(y0, ts, context, number.flatten(), steps=True), context, ts, place, draws)
        ys = self.solved(y0, ts, context, number.flatten()).ys.unflatten(1, (draws, count))
        own = of_each(ys[len(ys) - len(ts) :], place)
        return Decoded(own[..., :-1], self.decoder(own[..., :-1]), len(ts), path_kl=ys[-1, ..., -1])

    def solved(
        self, y0: Tensor, ts: Tensor, context: tuple[Tensor, ...], index: Tensor, seed: int = 0, steps: bool = False
    ) -> SDESolution:
        """From y0 at time 0 to the rising ``ts``, with time 0 as one more row at the front if it is not among them."""
        if self.training:
            seed = noise.next_seed()
        solution: SDESolution = self.block(y0, from_zero(ts), args=context, index=index, seed=seed, steps=steps)
        return solution

    def weighed(
        self, solution: SDESolution, context: tuple[Tensor, ...], ts: Tensor, place: Tensor, draws: int
    ) -> Decoded:
        """The paths of a test with log dq/dp of each, int u dW + 1/2 |u|^2 dt, by its sum over the steps (Girsanov)."""
        assert solution.brownian is not None
        z, kl = solution.ys[..., :-1], solution.ys[-1, :, -1]
        ends, martingale = solution.ts.tolist(), torch.zeros_like(kl)
        for row, (start, end) in enumerate(zip(ends, ends[1:], strict=False)):
            t = z.new_tensor(start)
            _, _, u = self.equation.steered(t, z[row], *context)
            martingale = martingale + (u * solution.brownian(start, end)[:, :-1]).sum(1)
        rows = torch.searchsorted(solution.ts, ts.double().to(solution.ts.device))
        own = of_each(z[rows.to(z.device)].unflatten(1, (draws, -1)), place)
        kl, ratio = (part.view(draws, -1) for part in (kl, kl + martingale))
        return Decoded(own, self.decoder(own), len(ts), path_kl=kl, log_ratio=ratio)

    def by_marginals(
        self, start: Tensor, index: Tensor, context: tuple[Tensor, ...], ts: Tensor, place: Tensor, draws: int
    ) -> Decoded:
        """The paths of a test of marginals, whose KL is estimated by log dq/dp itself."""
        solve, self.block.stats = self.block.solve, None  # nothing is solved
        assert isinstance(solve, ConfiguredSDESolve) and isinstance(self.steering, Marginals)
        asked = from_zero(ts)
        path = BrownianPath(solve.ends(asked), start.shape, index=index, dtype=start.dtype, device=start.device)
        states, log_ratio = marginal_paths(self.equation, self.steering, start, path, *context)
        rows = torch.searchsorted(torch.tensor(path.times, dtype=torch.float64), ts.double().cpu()).to(ts.device)
        own = of_each(states[rows].unflatten(1, (draws, -1)), place)
        ratio = log_ratio.view(draws, -1)
        return Decoded(own, self.decoder(own), len(ts), path_kl=ratio, log_ratio=ratio)

    def point(self, decoded: Decoded) -> Tensor:
        return decoded.mean.mean(0)

    def prior_paths(self, count: int, ts: Tensor, seed: int) -> Tensor:
        generator = torch.Generator(ts.device).manual_seed(seed)
        mean, std = self.prior()
        z0 = mean + std * torch.randn(count, self.latent, generator=generator, device=ts.device)
        solution = self.solved(z0, ts, (), torch.arange(count, device=ts.device), seed)
        values: Tensor = self.decoder(solution.ys[len(solution.ys) - len(ts) :]).transpose(0, 1)
        return values

    def data_diffusion(self, t: Tensor, z: Tensor) -> Tensor:
        """sqrt(sum_j (J_ij g_j)^2) with the decoder's Jacobian J, by Ito's formula: its square is the rate of the
        quadratic variation of channel i."""
        flat = z.reshape(-1, self.latent)
        jacobian = torch.func.vmap(torch.func.jacrev(self.decoder))(flat).view(*z.shape[:-1], -1, self.latent)
        found: Tensor = (jacobian * self.equation.prior_diffusion(t, z).unsqueeze(-2)).norm(dim=-1)
        return found


def from_zero(ts: Tensor) -> Tensor:
    """Rising times in double precision, 0 the first of them."""
    return ts.double() if ts[0] == 0 else torch.cat([ts.new_zeros(1), ts]).double()
