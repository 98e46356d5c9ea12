"""System identification: a known f whose parameters are unknown, fitted by maximum likelihood."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from noderun.data import Batch, DataError, Dataset
from noderun.dynamics.systems import Corrected
from noderun.models.block import MakeDynamics, Solve
from noderun.models.observed import ObservedState
from noderun.models.timeline import channel_mask
from noderun.ode import SolveError

TINY = 1e-6  # a value that is to be positive is at least this


class Physics(ObservedState):
    """f from the dynamics group, with normal or lognormal noise of unknown size around y(t).

    ``initial``: the first state is the first observation, or learned, one per training series. Training starts from
    the likeliest of ``starts`` points: the first guess, and normal draws around it of standard deviation ``spread``.
    ``correction`` is the number of hidden units of a net that is added to f, 0 for none.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        make_dynamics: MakeDynamics,
        solve: Solve,
        *,
        noise: str = "normal",
        initial: str = "observed",
        starts: int = 1,
        spread: float = 0.5,
        correction: int = 0,
    ) -> None:
        known = make_dynamics((outputs,))
        super().__init__(outputs, Corrected(known, outputs, correction) if correction else known, solve)
        self.state_size = int(getattr(known, "dim", outputs))
        self.noise, self.initial, self.starts, self.spread = noise, initial, starts, spread
        self.log_noise = nn.Parameter(torch.zeros(outputs))
        self.start: nn.Parameter | None = None  # [N, state], on the scale of the noise

    @property
    def known(self) -> nn.Module:
        """f without the net that corrects it."""
        return self.dynamics.known if isinstance(self.dynamics, Corrected) else self.dynamics

    def scaled(self, y: Tensor) -> Tensor:
        """y on the scale on which its noise is normal."""
        return y.clamp_min(TINY).log() if self.noise == "lognormal" else y

    def first_state(self, inputs: Tensor, mask: Tensor | None, index: Tensor | None) -> Tensor:
        if self.start is None:
            observed = super().first_state(inputs, mask, index)
            return torch.cat([observed, observed.new_zeros(len(observed), self.state_size - self.size)], dim=1)
        assert index is not None, "which training series these are"
        return self.start[index].exp() if self.noise == "lognormal" else self.start[index]

    def residuals(self, outputs: Tensor, targets: Tensor, mask: Tensor | None) -> Tensor:
        """[B, S, D] on the scale of the noise, 0 where nothing was observed."""
        there = channel_mask(targets, mask)
        found, known = (self.scaled(self.in_units(part)) for part in (outputs, torch.where(there, targets, 0.0)))
        return torch.where(there, found - known, 0.0)

    def loss(self, outputs: Tensor, targets: Tensor, mask: Tensor | None) -> Tensor:
        """[B]: the mean of -log p over a series' values, in nats, of values on the scale of the noise."""
        there = channel_mask(targets, mask)
        parts = (self.residuals(outputs, targets, mask) / self.log_noise.exp()).square() / 2 + self.log_noise
        nll = torch.where(there, parts + math.log(2 * math.pi) / 2, 0.0)
        return nll.flatten(1).sum(1) / there.flatten(1).sum(1).clamp(min=1)

    def unknowns(self) -> dict[str, nn.Parameter]:
        """The parameters of the known f, and the first states if they are learned."""
        found = dict(self.known.named_parameters())
        return found if self.start is None else {**found, "start": self.start}

    def owned(self) -> set[str]:
        """Those unknowns of which each training series has its own."""
        return set() if self.start is None else {"start"}

    @torch.no_grad()
    def prepare_for(self, dataset: Dataset) -> None:
        """Make what belongs to the training series, and choose where training starts."""
        super().prepare_for(dataset)
        rows = dataset.prepare(dataset.train, None)
        values = self.in_units(rows.inputs)
        if self.noise == "lognormal" and bool((values[channel_mask(values, rows.mask)] <= 0).any()):
            raise DataError(f"{dataset.name}: model.noise=lognormal is of positive values, and some are not")
        if self.initial == "learned":
            if len(dataset.train) != len(dataset.test):
                raise DataError(
                    f"{dataset.name}: its test has other series, whose first states training cannot learn: "
                    "give model.initial=observed"
                )
            self.start = nn.Parameter(self.scaled(self.first_state(values, rows.mask, None)))
        self.choose_start(Batch(**{**rows.parts(), "index": torch.arange(len(rows), device=rows.inputs.device)}))

    def choose_start(self, rows: Batch) -> None:
        generator = torch.Generator().manual_seed(0)
        unknowns = {name: p for name, p in self.unknowns().items() if name != "start"}
        guess = {name: p.clone() for name, p in unknowns.items()}
        best, least = guess, self.misfit(rows)
        for _ in range(self.starts - 1):
            drawn = {
                name: p + self.spread * torch.randn(p.shape, generator=generator).to(p) for name, p in guess.items()
            }
            self.set(drawn)
            found = self.misfit(rows)
            better = found < least if self.owned() >= set(drawn) else (found.sum() < least.sum()).expand_as(found)
            best = {
                name: torch.where(better if len(p.shape) else better[0], drawn[name], p) for name, p in best.items()
            }
            least = torch.where(better, found, least)
        self.set(best)
        self.log_noise.copy_((self.misfit(rows).mean().clamp_min(1e-12).log() / 2).expand_as(self.log_noise))

    def set(self, values: dict[str, Tensor]) -> None:
        unknowns = self.unknowns()
        for name, value in values.items():
            unknowns[name].copy_(value)

    def misfit(self, rows: Batch) -> Tensor:
        """[N]: each series' mean square of the residuals; infinite if its solve fails."""
        assert rows.times is not None and rows.targets is not None
        try:
            outputs = self(rows.inputs, rows.times, rows.mask, rows.target_times, rows.index)
        except SolveError:
            return torch.full((len(rows),), torch.inf, device=rows.inputs.device)
        mask = rows.mask if rows.target_times is None else rows.target_mask
        return self.residuals(outputs, rows.targets, mask).square().flatten(1).mean(1).nan_to_num(torch.inf)


class Hybrid(Physics):
    """Physics with events that reset the state, each series at its own times.

    The dynamics also define ``events(index [B])``. With ``own`` every parameter has one value per series.
    """

    def __init__(self, *made_with: Any, own: bool = True, **options: Any) -> None:
        super().__init__(*made_with, **options)
        if not hasattr(self.known, "events"):
            raise ValueError(
                f"model=hybrid needs dynamics with events, as bouncing_ball; {type(self.known).__name__} has none"
            )
        self.own = own

    def owned(self) -> set[str]:
        return super().owned() | (set(dict(self.known.named_parameters())) if self.own else set())

    @torch.no_grad()
    def prepare_for(self, dataset: Dataset) -> None:
        known: Any = self.known
        for parameter in known.parameters():
            if self.own:
                parameter.data = parameter.data.expand(len(dataset.train), *parameter.shape).clone()
        ObservedState.prepare_for(self, dataset)
        if hasattr(known, "start_from"):
            values = self.in_units(dataset.train.inputs)
            seen = channel_mask(values, dataset.train.mask)
            known.start_from(torch.where(seen, values, torch.inf).flatten(1).amin(1))
        super().prepare_for(dataset)

    def states(self, y0: Tensor, since: Tensor, index: Tensor | None) -> Tensor:
        known: Any = self.known
        assert index is not None, "which training series these are"
        ts = torch.cat([since.new_zeros(len(since), 1), since], dim=1)
        return self.block(y0, ts, per_sample=True, events=known.events(index)).ys[1:].transpose(0, 1)
