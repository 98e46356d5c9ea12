"""What a model is trained for: (model, batch) -> means over the batch, the loss first.

The loop minimises "loss" and averages whatever else an objective reports; it knows nothing of classes.
"""

from __future__ import annotations

from collections.abc import Callable

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


OBJECTIVES: dict[str, Objective] = {"classify": classify, "regress": regress}
