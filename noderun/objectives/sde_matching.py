"""SDE Matching: a latent SDE is trained without a solve (Bartosh, Vetrov, Naesseth 2025)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from noderun import noise
from noderun.data import Batch, Series
from noderun.data.series import packed
from noderun.models import LatentSDE
from noderun.models.latent import log_normal
from noderun.models.steering import Marginal, Marginals
from noderun.objectives.series_elbo import SeriesELBO, bound, series_of

TIMES = 16  # at which |u|^2 is looked at, per series and step


class SDEMatching(SeriesELBO):
    """The bound of ``SeriesELBO``, each of whose parts asks for z at single times: they are drawn from the marginals.

    E int 1/2 |u|^2 dt is estimated at one random time in each of TIMES equal parts of a series' span. The encoder sees
    a forecast's answers in training, because the bound is one on all values at once. A test simulates paths, and
    reports the same numbers as that of ``SeriesELBO``.
    """

    models: ClassVar = (LatentSDE,)
    targets: ClassVar = (Series,)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        if not model.training:
            return super().__call__(model, batch)
        assert isinstance(model, LatentSDE) and isinstance(model.steering, Marginals) and batch.times is not None
        x, times, mask, asked = series_of(batch, labeled=False)
        given = (batch.inputs, batch.times, batch.mask)
        if asked < x.shape[1]:
            x, times, mask = given = packed(x, times, mask)
        posterior = model.infer(*given)
        curves, knots, last = posterior.context
        there = mask & (times <= last).unsqueeze(-1)  # beyond, the posterior is the prior, whose marginals are unknown
        index = torch.arange(len(x), device=x.device) if batch.index is None else batch.index
        z = drawn(model, model.steering.at(times, curves, knots), index)
        expected = log_normal(x, model.decoder(z), model.noise, there).mean(0)
        kl = model.start_kl(posterior) + path_kl(model, curves, knots, last, index)
        return bound(model, expected, kl, there, self.step)


def drawn(model: LatentSDE, found: Marginal, index: Tensor) -> Tensor:
    """z [K, B, S, L] of the marginals, by each series' ``index``: S is that of the longest series at hand, and what a
    series draws must not depend on the others."""
    _, length, size = found.mean.shape
    e = noise.normal(noise.next_seed(), index, (length, model.samples, size), found.mean.dtype)
    return found.mean + found.std * e.permute(2, 0, 1, 3)


def path_kl(model: LatentSDE, curves: Tensor, knots: Tensor, last: Tensor, index: Tensor) -> Tensor:
    """E int 1/2 |u|^2 dt [B] from 0 to the last observation."""
    assert isinstance(model.steering, Marginals)
    part = torch.arange(TIMES, device=last.device)
    t = last * (part + noise.for_batch(torch.rand, (len(last), TIMES), last)) / TIMES  # [B, TIMES]
    found = model.steering.at(t, curves, knots)
    z, at = drawn(model, found, index), t.unsqueeze(-1)
    h, g = model.equation.prior_drift(at, z), model.equation.prior_diffusion(at, z)
    u = model.steering.steer(model.equation, z, h, g, found)
    return 0.5 * last.squeeze(1) * u.square().sum(-1).mean((0, 2))
