"""Multi-level training: a net is trained shallow, then deepened in between (Chang et al. 2018)."""

from __future__ import annotations

from torch import Tensor

from noderun.training.progress import Progress
from noderun.training.setup import Setup


def deepen(setup: Setup, times: int) -> None:
    """Doubles the model's depth so often; the new parameters take on the optimiser state of those they copy."""
    optimizer = setup.optimizer
    for _ in range(times):
        pairs = setup.model.refine()  # type: ignore[operator]
        for new, source in pairs:
            optimizer.param_groups[0]["params"].append(new)
            state = optimizer.state.get(source, {})
            if state:
                optimizer.state[new] = {k: v.clone() if isinstance(v, Tensor) else v for k, v in state.items()}


def deepen_if_due(setup: Setup, progress: Progress) -> None:
    """At an epoch's start: doubles the depth where ``model.double_at`` names the number of epochs done."""
    due = sum(epoch <= progress.epoch for epoch in getattr(setup.model, "double_at", ()))
    deepen(setup, due - progress.deepened)
    progress.deepened = due
