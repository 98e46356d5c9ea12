"""Multi-level training: a net is trained shallow and made deeper in between (Chang et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor, nn

from noderun.training.callbacks import Callback
from noderun.training.setup import Setup

if TYPE_CHECKING:
    from noderun.training.run import Run


@runtime_checkable
class Refinable(Protocol):
    """A model whose depth can be doubled."""

    double_at: tuple[int, ...]  # the numbers of epochs after which it is

    def refine(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Double the depth; returns each new parameter with the one that it copies."""


class MultiLevel(Callback):
    """Doubles the depth of a Refinable model; new parameters take on the optimizer state of those they copy."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.doublings = 0

    def on_epoch_start(self, run: Run) -> None:
        if isinstance(self.setup.model, Refinable):
            due = sum(epoch <= run.progress.epoch for epoch in self.setup.model.double_at)
            self.double_depth(due - self.doublings)

    def double_depth(self, times: int) -> None:
        model, optimizer = self.setup.model, self.setup.optimizer
        for _ in range(times):
            assert isinstance(model, Refinable)
            for new, source in model.refine():
                optimizer.param_groups[0]["params"].append(new)
                state = optimizer.state.get(source, {})
                if state:
                    optimizer.state[new] = {k: v.clone() if isinstance(v, Tensor) else v for k, v in state.items()}
        self.doublings += times

    def state_dict(self) -> dict[str, Any]:
        return {"doublings": self.doublings}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.double_depth(state["doublings"] - self.doublings)
