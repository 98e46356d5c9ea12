"""What a model is trained for: (model, batch) -> means over the batch, the loss first.

The loop minimises "loss" and averages whatever else an objective reports; it knows nothing of classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

Batch = tuple[Tensor, ...]
Objective = Callable[[nn.Module, Batch], dict[str, Tensor]]


def classify(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """batch = (inputs [B, ...], classes [B]); model(inputs) = logits [B, K]; "error" is the fraction misclassified."""
    inputs, classes = batch
    logits = model(inputs).float()
    wrong = logits.detach().argmax(dim=1) != classes
    return {"loss": functional.cross_entropy(logits, classes), "error": wrong.float().mean()}


def regress(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """batch = (inputs [B, ...], targets [B, ...]); "mse" is the mean squared error, which is also the loss."""
    inputs, targets = batch
    outputs = model(inputs)
    if outputs.shape != targets.shape:  # mse_loss would broadcast, and learn the wrong thing
        raise ValueError(f"the model returns {tuple(outputs.shape)} for targets of shape {tuple(targets.shape)}")
    loss = functional.mse_loss(outputs.float(), targets)
    return {"loss": loss, "mse": loss.detach()}


def sign(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Two classes as the sign of one output: smooth L1 to -1 and 1 (Dupont et al. 2019); "error" as in classify.

    Unlike cross entropy it asks for no ever larger margin, so the field has no reason to grow without end.
    """
    inputs, classes = batch
    outputs = model(inputs).float().squeeze(1)
    wrong = (outputs.detach() > 0) != (classes > 0)
    return {"loss": functional.smooth_l1_loss(outputs, 2.0 * classes - 1), "error": wrong.float().mean()}


class Penalized(Protocol):
    """A solve that leaves a penalty behind when it is made in training, else None."""

    penalty: Tensor | None


def regularized(objective: Objective, blocks: Sequence[Penalized], weight: float) -> Objective:
    """The objective with weight times the sum of the blocks' penalties in its loss; "regularizer" is that sum alone."""

    def values(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        found = objective(model, batch)
        penalties = [block.penalty for block in blocks if block.penalty is not None]
        if not penalties:
            return found
        total = torch.stack(penalties).sum()
        return found | {"loss": found["loss"] + weight * total, "regularizer": total.detach()}

    return values


OBJECTIVES: dict[str, Objective] = {"classify": classify, "regress": regress, "sign": sign}
