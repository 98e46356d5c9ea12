"""The ranks of a run: the processes that train one model together, each on its own rows of every batch.

Rank 0 is the process that was asked to train, and the only one that writes. All ranks hold the same weights, draw the
same numbers and see the same means, so that each decides on its own what all of them decide.
"""

from __future__ import annotations

import gc
import json
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from noderun.config.schema import Settings
from noderun.config.startup import rank_of_torchrun
from noderun.data import Batch, DataError
from noderun.models.moving_batch_norm import MovingBatchNorm
from noderun.noise import shared
from noderun.ode.solvers.control import rms
from noderun.ode.solvers.errors import NonFiniteDynamics
from noderun.training.meters import Number
from noderun.training.progress import Diverged

if TYPE_CHECKING:
    from noderun.training.setup import Setup

PATIENCE = timedelta(days=1)  # with a rank that is at work: a test, a measurement; one that dies is noticed at once
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, MovingBatchNorm)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
A_WORD = 5.0  # seconds in which a rank that fails says why
T = TypeVar("T")


def rank_count(devices: int) -> int:
    """The number of ranks of a run for which ``trainer.devices`` was set."""
    return int(os.environ["WORLD_SIZE"]) if rank_of_torchrun() is not None else devices


class RankFailed(ValueError):
    """Another rank has failed."""


class RankLost(RankFailed):
    """Another rank has ended without a word."""


class Ranks:
    """This process among the ranks, number ``index`` of ``count``; alone it leaves everything as it is.

    ``store`` is what the ranks of one attempt at a run write to each other.
    """

    def __init__(
        self,
        index: int = 0,
        count: int = 1,
        device: torch.device | None = None,
        store: dist.Store | None = None,
    ) -> None:
        self.index, self.count = index, count
        self.device, self.store = device, store
        self._parallel: nn.Module | None = None
        self._part = 1.0  # of the last batch: the second that ``share`` returns
        self._together = False  # in a forward pass of training, which all ranks make

    def among(self, setup: Setup, settings: Settings) -> Setup:
        """The setup for a model that these ranks train; DataError if it would not learn what it learns alone."""
        if self.count == 1:
            return setup
        if reason := unshareable(setup.model):
            raise DataError(reason)
        if settings.solver is not None and settings.solver.sync_steps:
            for block in setup.blocks:
                block.solve = replace(block.configured, norm=self.rms, compile=False)  # no graph calls other ranks
        return replace(setup, ranks=self)

    def values(self, setup: Setup, batch: Batch) -> dict[str, Tensor]:
        """``setup.values`` in training; of several ranks numbers whose mean over them is that over the batch.

        The gradients are then those of the batch's loss on every rank.
        """
        if self.count == 1:
            return setup.values(batch)
        if self._parallel is None:
            self._parallel = DistributedDataParallel(Share(setup), find_unused_parameters=True)
        rows, self._part = self.share(batch)
        self._together = True
        try:
            with shared(len(batch), self.rows(len(batch))):
                values: dict[str, Tensor] = self._parallel(rows, self._part)
        finally:
            self._together = False
        return values

    def share(self, batch: Batch) -> tuple[Batch, float]:
        """This rank's rows, and their number over the mean number of a rank's.

        If there are fewer rows than ranks some have none: they take one that is another's, and it counts 0.
        """
        size = len(batch)
        own = size * (self.index + 1) // self.count - size * self.index // self.count
        return batch.rows(self.rows(size)), self.count * own / size

    def rows(self, size: int) -> slice:
        """Which rows of a batch this rank takes."""
        first, end = (size * index // self.count for index in (self.index, self.index + 1))
        return slice(first, max(end, first + 1))

    def rms(self, v: Tensor) -> Tensor:
        """The root mean square [] of a vector of which, in a forward pass of training, each rank has a part [N]."""
        if not self._together:
            return rms(v)
        squares = torch.linalg.vector_norm(v.detach()).double().square()
        sums = torch.stack([squares, torch.full_like(squares, v.numel())])
        sums *= float(self._part > 0)
        dist.all_reduce(sums)
        return (sums[0] / sums[1]).sqrt()

    def mean(self, numbers: dict[str, Number | None], of_rows: dict[str, Number | None]) -> dict[str, Number | None]:
        """The mean of each over the ranks; of those ``of_rows`` each rank's counts by the number of its rows."""
        whole = numbers | of_rows
        if self.count == 1:
            return whole
        there = {name: torch.as_tensor(x, dtype=torch.float64) for name, x in whole.items() if x is not None}
        parts = [x.detach().to(self.device) * (self._part if name in of_rows else 1.0) for name, x in there.items()]
        total = torch.stack(parts)
        dist.all_reduce(total)
        return whole | dict(zip(there, (total / self.count).unbind(), strict=True))

    def agreed(self, number: float) -> float:
        """That of rank 0."""
        return self.sent(number) if self.count > 1 else number

    def sent(self, content: T) -> T:
        """What rank 0 sends."""
        parts = [content]
        dist.broadcast_object_list(parts, src=0)
        return parts[0]

    def gathered(self, part: T) -> list[T]:
        """The parts of all ranks, in their order."""
        if self.count == 1:
            return [part]
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, part)
        return parts

    def dealt(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Every ``count``-th of the batches, whole."""
        return islice(batches, self.index, None, self.count)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, another rank that does not answer any more raises what it has failed with, or RankLost."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
                raise
            raise self.reason() from error

    def reason(self) -> ValueError:
        """Why another rank does not answer."""
        assert self.store is not None
        end = time.monotonic() + A_WORD
        while time.monotonic() < end:
            if self.store.check(["failure"]):
                diverged, sentence = json.loads(self.store.get("failure"))
                return Diverged(sentence) if diverged else RankFailed(sentence)
            time.sleep(0.02)
        return RankLost("another rank of this run has ended without a word; the same command goes on")

    def tell(self, error: BaseException) -> None:
        """Leave word of what this rank fails with, for those who wait for it; the first word counts."""
        assert self.store is not None
        if isinstance(error, RankFailed) or self.store.check(["failure"]):
            return
        sentence = str(error).strip() or type(error).__name__
        said = sentence if self.index == 0 else f"rank {self.index}: {sentence}"
        self.store.set("failure", json.dumps([isinstance(error, Diverged | NonFiniteDynamics), said]))

    def leave(self) -> None:
        """Close the connections; those who wait for this rank then hear of it."""
        self._parallel = None  # it holds them
        gc.collect()
        dist.destroy_process_group()


def unshareable(model: nn.Module) -> str | None:
    """Why ranks cannot train a model, each on its own rows of a batch; None if they can."""
    for name, part in model.named_modules():
        if isinstance(part, BATCH_NORMS):
            return (
                f"trainer.devices: {name} is a {type(part).__name__}, whose mean over a batch no rank knows; use a "
                "norm of each example, as nn.GroupNorm, or one device"
            )
        if isinstance(part, DROPOUTS) and part.p > 0:
            return (
                f"trainer.devices: {name} is a {type(part).__name__}, which draws by the place in a batch and not by "
                "the example; set its p to 0, or use one device"
            )
    return None


class Share(nn.Module):
    """A rank's part of what an objective reports of a batch; a Module, because DistributedDataParallel takes one."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.model = setup.model
        self.setup = setup
        # of a model that uses all of its parameters torch says on stderr that it was searched for others in vain
        self.unused = nn.Parameter(torch.zeros(1, device=setup.device))

    def forward(self, rows: Batch, part: float) -> dict[str, Tensor]:
        return {name: part * value.mean() for name, value in self.setup.values(rows).items()}


@contextmanager
def joined(index: int, count: int, device: torch.device, store: dist.Store) -> Iterator[Ranks]:
    """The group of ranks that meet at ``store``, from the first to the last word between them."""
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=index, world_size=count, timeout=PATIENCE)
    ranks = Ranks(index, count, device, store)
    try:
        with ranks.watched():
            yield ranks
            dist.barrier()
    except BaseException as error:
        ranks.tell(error)
        forget_frames(error)
        raise
    finally:
        ranks.leave()


def forget_frames(error: BaseException | None) -> None:
    """Let go of what the frames hold through which an error came."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
